// Weighted sums of maps [B, C, H, W], in place, and the gradients of upsampling and pooling in the same pass.

// At most four maps with a factor a channel, and a term for each plane.
struct Terms {
    const float* maps[4];
    const float* scales[4];
    const float* shift;
};

#define TERMS(t)                                                                                            \
    const float *__restrict__ t##_0, const float *__restrict__ t##_scale_0, const float *__restrict__ t##_1, \
        const float *__restrict__ t##_scale_1, const float *__restrict__ t##_2,                             \
        const float *__restrict__ t##_scale_2, const float *__restrict__ t##_3,                             \
        const float *__restrict__ t##_scale_3, const float *__restrict__ t##_shift
#define THE(t)                                                                                              \
    {{t##_0, t##_1, t##_2, t##_3}, {t##_scale_0, t##_scale_1, t##_scale_2, t##_scale_3}, t##_shift}

// The sum at number i, of a plane of channel c, on top of `start`.
static __device__ float sum_at(const Terms& terms, unsigned i, unsigned plane, unsigned c, float start) {
    float sum = terms.shift ? start + terms.shift[plane] : start;
    #pragma unroll
    for (unsigned k = 0; k < 4; k++)
        if (terms.maps[k]) sum = fmaf(terms.scales[k][c], terms.maps[k][i], sum);
    return sum;
}

// out = own[c] out + the sum; n numbers.
extern "C" __global__ void blend(TERMS(t), const float* __restrict__ own, unsigned n, unsigned channels, unsigned pixels,
                                 float* __restrict__ out) {
    Terms terms = THE(t);
    EACH(i, n) {
        unsigned plane = i / pixels, c = plane % channels;
        out[i] = sum_at(terms, i, plane, c, own ? own[c] * out[i] : out[i]);
    }
}

// out [B, C, h, w], n numbers: each pixel the sum of its four in the sum of maps [B, C, 2h, 2w].
extern "C" __global__ void blend_through_nearest_2x(TERMS(t), unsigned n, unsigned channels, unsigned h, unsigned w,
                                                    float* __restrict__ out) {
    Terms terms = THE(t);
    EACH(i, n) {
        unsigned plane = i / (h * w), c = plane % channels, top = i / w * 4 * w + 2 * (i % w), bottom = top + 2 * w;
        float above = sum_at(terms, top, plane, c, 0.0f) + sum_at(terms, top + 1, plane, c, 0.0f);
        float below = sum_at(terms, bottom, plane, c, 0.0f) + sum_at(terms, bottom + 1, plane, c, 0.0f);
        out[i] = above + below;
    }
}

// out = own[c] out + the sum + the gradient of a 2 x 2 max pooling of x, whose output's gradient is the sum `pooled` of
// maps of half the sides; n numbers [B, C, h, w]. The first largest of four takes it; NaN wins.
extern "C" __global__ void blend_through_max_pool(TERMS(t), TERMS(pooled), const float* __restrict__ own,
                                                  const float* __restrict__ x, unsigned n, unsigned channels, unsigned h,
                                                  unsigned w, float* __restrict__ out) {
    Terms terms = THE(t), of_pooled = THE(pooled);
    EACH(i, n) {
        unsigned plane = i / (h * w), c = plane % channels, row = i / w % h, column = i % w;
        float sum = sum_at(terms, i, plane, c, own ? own[c] * out[i] : out[i]);
        unsigned corner = i - row % 2 * w - column % 2, best = corner;
        for (unsigned k = 0; k < 4; k++) {
            unsigned at = corner + k / 2 * w + k % 2;
            if (x[at] > x[best] || x[at] != x[at]) best = at;
        }
        if (best == i) sum += sum_at(of_pooled, (plane * (h / 2) + row / 2) * (w / 2) + column / 2, plane, c, 0.0f);
        out[i] = sum;
    }
}
