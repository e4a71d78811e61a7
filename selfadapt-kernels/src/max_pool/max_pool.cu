// Max pooling of planes [h, w] to [oh, ow], and its gradient.

// Where in its plane the first largest pixel of the window from (top, left) on is; NaN wins.
static __device__ unsigned first_largest(const float* plane, unsigned w, unsigned kernel, unsigned top, unsigned left) {
    unsigned best = top * w + left;
    for (unsigned y = top; y < top + kernel; y++)
        for (unsigned x = left; x < left + kernel; x++) {
            float value = plane[y * w + x];
            if (value > plane[best] || value != value) best = y * w + x;
        }
    return best;
}

extern "C" __global__ void max_pool(const float* __restrict__ x, unsigned n, unsigned h, unsigned w, unsigned kernel,
                                    unsigned stride, float* __restrict__ y) {
    unsigned oh = (h - kernel) / stride + 1, ow = (w - kernel) / stride + 1;
    EACH(i, n) {
        const float* plane = x + i / (oh * ow) * h * w;
        y[i] = plane[first_largest(plane, w, kernel, i / ow % oh * stride, i % ow * stride)];
    }
}

// A thread takes an input pixel and gathers from the windows over it, in order.
extern "C" __global__ void max_pool_backward(const float* __restrict__ x, const float* __restrict__ dy, unsigned n,
                                             unsigned h, unsigned w, unsigned kernel, unsigned stride,
                                             float* __restrict__ dx) {
    unsigned oh = (h - kernel) / stride + 1, ow = (w - kernel) / stride + 1;
    EACH(i, n) {
        unsigned pixel = i % (h * w), row = pixel / w, column = pixel % w;
        const float* plane = x + (i - pixel);
        const float* from = dy + i / (h * w) * oh * ow;
        unsigned top = row < kernel ? 0 : (row - kernel) / stride + 1;
        unsigned left = column < kernel ? 0 : (column - kernel) / stride + 1;
        float sum = 0.0f;
        for (unsigned r = top; r < oh && r * stride <= row; r++)
            for (unsigned c = left; c < ow && c * stride <= column; c++)
                if (first_largest(plane, w, kernel, r * stride, c * stride) == pixel) sum += from[r * ow + c];
        dx[i] = sum;
    }
}
