// Masked losses, value and gradient in one pass: the equations are in mod.rs.

// How many elements a mask keeps, in parts.
extern "C" __global__ void kept(const float* __restrict__ mask, unsigned n, double* __restrict__ parts) {
    double sum = 0.0;
    EACH(i, n) sum += (double)mask[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// One over the count, or 0 where nothing is kept; to be called by all threads.
static __device__ float share_of(const double* kept_parts) {
    double kept = sum_of_parts(kept_parts);
    return kept > 0.0 ? (float)(1.0 / kept) : 0.0f;
}

extern "C" __global__ void masked_bce(const float* __restrict__ logits, const float* __restrict__ target,
                                      const float* __restrict__ mask, unsigned n,
                                      const double* __restrict__ kept_parts, float* __restrict__ gradient,
                                      double* __restrict__ parts) {
    float share = share_of(kept_parts);
    double sum = 0.0;
    EACH(i, n) {
        float logit = logits[i], probability = target[i];
        // max(l, 0) - l t + ln(1 + e^-|l|) overflows nowhere.
        float small = expf(-fabsf(logit));
        float winner = 1.0f / (1.0f + small);
        float positive = logit < 0.0f ? 0.0f : logit;
        float sigmoid = logit < 0.0f ? small * winner : winner;
        // Selected, not multiplied: what is masked may be infinite or NaN.
        bool keeps = mask[i] > 0.0f;
        if (keeps) sum += (double)(positive - logit * probability + log1pf(small));
        if (gradient) gradient[i] = keeps ? (sigmoid - probability) * share : 0.0f;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

extern "C" __global__ void masked_mse(const float* __restrict__ prediction, const float* __restrict__ target,
                                      const float* __restrict__ mask, unsigned n,
                                      const double* __restrict__ kept_parts, float* __restrict__ gradient,
                                      double* __restrict__ parts) {
    float share = share_of(kept_parts);
    double sum = 0.0;
    EACH(i, n) {
        float off = prediction[i] - target[i];
        bool keeps = mask[i] > 0.0f;
        if (keeps) sum += (double)(off * off);
        if (gradient) gradient[i] = keeps ? (off + off) * share : 0.0f;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// A thread takes a pixel; class k of pixel p of image b is at (b classes + k) pixels + p, its mask at b pixels + p.
extern "C" __global__ void masked_cross_entropy(const float* __restrict__ logits, const float* __restrict__ target,
                                                const float* __restrict__ mask, unsigned n, unsigned classes,
                                                unsigned pixels, const double* __restrict__ kept_parts,
                                                float* __restrict__ gradient, double* __restrict__ parts) {
    float share = share_of(kept_parts);
    double sum = 0.0;
    EACH(i, n) {
        unsigned start = i / pixels * classes * pixels + i % pixels;
        const float* l = logits + start;
        const float* t = target + start;
        float largest = l[0];
        for (unsigned k = 1; k < classes; k++) largest = l[k * pixels] > largest ? l[k * pixels] : largest;
        float total = 0.0f, weight = 0.0f, term = 0.0f;
        for (unsigned k = 0; k < classes; k++) {
            total += expf(l[k * pixels] - largest);
            weight += t[k * pixels];
            term += t[k * pixels] * (largest - l[k * pixels]);
        }
        bool keeps = mask[i] > 0.0f;
        if (keeps) sum += (double)(term + weight * logf(total));
        if (gradient) {
            float scale = weight / total;
            for (unsigned k = 0; k < classes; k++) {
                float slope = (expf(l[k * pixels] - largest) * scale - t[k * pixels]) * share;
                gradient[start + k * pixels] = keeps ? slope : 0.0f;
            }
        }
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}
