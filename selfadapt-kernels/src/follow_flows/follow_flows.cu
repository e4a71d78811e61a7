// Moves pixels along a flow field: the arithmetic, its types and its order are those of mod.rs, to the bit.

static __device__ float within(float at, unsigned size) {
    return fminf(fmaxf(at, 0.0f), (float)(size - 1));
}

// Bilinear between a b above and c d below.
static __device__ float mix(float a, float b, float c, float d, float y, float x) {
    double above = 1.0 - (double)y, left = 1.0 - (double)x;
    return (float)((double)a * above * left + (double)b * above * (double)x + (double)(c * y) * left +
                   (double)(d * y * x));
}

// field [height + 1, width + 1, 2] holds (dy, dx); a thread takes a start, an index into the image; ends are (y, x).
extern "C" __global__ void follow_flows(const float* __restrict__ field, unsigned height, unsigned width,
                                        const unsigned* __restrict__ starts, unsigned n, unsigned steps,
                                        unsigned interpolate, float* __restrict__ ends) {
    unsigned row = 2 * (width + 1);
    EACH(i, n) {
        float y = (float)(starts[i] / width), x = (float)(starts[i] % width);
        for (unsigned step = 0; step < steps; step++) {
            const float* a = field + (unsigned)y * row + 2 * (unsigned)x;
            float dy = a[0], dx = a[1];
            if (interpolate) {
                const float* c = a + row;
                float fy = y - truncf(y), fx = x - truncf(x);
                dy = mix(a[0], a[2], c[0], c[2], fy, fx);
                dx = mix(a[1], a[3], c[1], c[3], fy, fx);
            }
            float to_y = within(y + dy, height), to_x = within(x + dx, width);
            if (to_y == y && to_x == x) break;
            y = to_y;
            x = to_x;
        }
        ends[2 * i] = y;
        ends[2 * i + 1] = x;
    }
}
