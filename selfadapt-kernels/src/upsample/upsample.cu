// Upsampling of planes, nearest by two and bilinear to any size, and the gradients.

// y [planes, 2h, 2w]; n numbers of it.
extern "C" __global__ void nearest_2x(const float* __restrict__ x, unsigned n, unsigned h, unsigned w,
                                      float* __restrict__ y) {
    EACH(i, n) {
        unsigned column = i % (2 * w), row = i / (2 * w) % (2 * h), plane = i / (4 * h * w);
        y[i] = x[(plane * h + row / 2) * w + column / 2];
    }
}

// dx [planes, h, w]; n numbers of it.
extern "C" __global__ void nearest_2x_backward(const float* __restrict__ dy, unsigned n, unsigned h, unsigned w,
                                               float* __restrict__ dx) {
    EACH(i, n) {
        const float* top = dy + (i / w * 4 * w + 2 * (i % w));
        const float* bottom = top + 2 * w;
        dx[i] = (top[0] + top[1]) + (bottom[0] + bottom[1]);
    }
}

// Where sample i of an axis of `size` pixels drawn to `out` lies: the pixel below, and the weight of the one above.
struct Tap {
    unsigned below, above;
    float weight;
};

static __device__ Tap tap(unsigned i, unsigned size, unsigned out) {
    double at = (i + 0.5) * ((double)size / (double)out) - 0.5;
    if (at < 0.0) at = 0.0;
    Tap tap;
    tap.below = (unsigned)at < size - 1 ? (unsigned)at : size - 1;
    tap.above = tap.below + 1 < size - 1 ? tap.below + 1 : size - 1;
    tap.weight = (float)(at - tap.below);
    return tap;
}

// y [planes, oh, ow]; n numbers of it.
extern "C" __global__ void bilinear(const float* __restrict__ x, unsigned n, unsigned h, unsigned w, unsigned oh,
                                    unsigned ow, float* __restrict__ y) {
    EACH(i, n) {
        Tap row = tap(i / ow % oh, h, oh), column = tap(i % ow, w, ow);
        const float* plane = x + i / (oh * ow) * h * w;
        const float* below = plane + row.below * w;
        const float* above = plane + row.above * w;
        float left = below[column.below] * (1.0f - row.weight) + above[column.below] * row.weight;
        float right = below[column.above] * (1.0f - row.weight) + above[column.above] * row.weight;
        y[i] = left * (1.0f - column.weight) + right * column.weight;
    }
}

// Samples from the first to before the last are all that touch pixel `at`, those around them with weight 0.
static __device__ unsigned first_sample(unsigned at, unsigned size, unsigned out) {
    double first = ((double)at - 0.5) * ((double)out / (double)size) - 1.5;
    return first < 0.0 ? 0 : (unsigned)first;
}

static __device__ unsigned last_sample(unsigned at, unsigned size, unsigned out) {
    double last = ((double)at + 1.5) * ((double)out / (double)size) + 1.5;
    return at + 1 < size && last < (double)out ? (unsigned)last : out;
}

static __device__ float touches(Tap tap, unsigned at) {
    return (tap.below == at ? 1.0f - tap.weight : 0.0f) + (tap.above == at ? tap.weight : 0.0f);
}

// A thread takes a pixel of dx [planes, h, w] and gathers from the samples that it is part of.
extern "C" __global__ void bilinear_backward(const float* __restrict__ dy, unsigned n, unsigned h, unsigned w,
                                             unsigned oh, unsigned ow, float* __restrict__ dx) {
    EACH(i, n) {
        unsigned row = i / w % h, column = i % w;
        const float* from = dy + i / (h * w) * oh * ow;
        unsigned bottom = last_sample(row, h, oh), right = last_sample(column, w, ow);
        float sum = 0.0f;
        for (unsigned r = first_sample(row, h, oh); r < bottom; r++) {
            float share = touches(tap(r, h, oh), row);
            if (share == 0.0f) continue;
            float gathered = 0.0f;
            for (unsigned c = first_sample(column, w, ow); c < right; c++)
                gathered += from[r * ow + c] * touches(tap(c, w, ow), column);
            sum += gathered * share;
        }
        dx[i] = sum;
    }
}
