// Selection by counting digits of the numbers' bits, the leading ones first.

#define BINS 2048u

// Maps floats to integers of the same order; negative zero counts as zero.
static __device__ unsigned key_of(float value) {
    unsigned bits = __float_as_uint(value + 0.0f);
    return bits >> 31 ? ~bits : bits | 1u << 31;
}

// Element i of a channel's n over images: plane after plane.
static __device__ unsigned of_channel(unsigned i, unsigned pixels, unsigned channels, unsigned channel) {
    return (i / pixels * channels + channel) * pixels + i % pixels;
}

// Counts the kept values of a channel of x [B, channels, pixels] whose key begins, above bit `top`, with `prefix`, by
// the digit from bit `shift` on: BINS counts, and after them the number of NaN.
extern "C" __global__ void digits(const float* __restrict__ x, const float* __restrict__ mask, unsigned n,
                                  unsigned pixels, unsigned channels, unsigned channel, unsigned top, unsigned prefix,
                                  unsigned shift, unsigned* __restrict__ counts) {
    __shared__ unsigned bins[BINS + 1];
    for (unsigned bin = threadIdx.x; bin <= BINS; bin += THREADS) bins[bin] = 0;
    __syncthreads();
    EACH(i, n) {
        unsigned at = of_channel(i, pixels, channels, channel);
        if (!mask || mask[at] > 0.0f) {
            float value = x[at];
            unsigned key = key_of(value);
            if (value != value) atomicAdd(&bins[BINS], 1u);
            else if (top == 32 || key >> top == prefix) atomicAdd(&bins[(key >> shift) & ((1u << (top - shift)) - 1u)], 1u);
        }
    }
    __syncthreads();
    for (unsigned bin = threadIdx.x; bin <= BINS; bin += THREADS)
        if (bins[bin] > 0) atomicAdd(&counts[bin], bins[bin]);
}

// The least key of kept values above `key`.
extern "C" __global__ void next_key(const float* __restrict__ x, const float* __restrict__ mask, unsigned n,
                                    unsigned pixels, unsigned channels, unsigned channel, unsigned key,
                                    unsigned* __restrict__ least) {
    __shared__ unsigned shared;
    if (threadIdx.x == 0) shared = 0xffffffffu;
    __syncthreads();
    EACH(i, n) {
        unsigned at = of_channel(i, pixels, channels, channel);
        if (!mask || mask[at] > 0.0f) {
            unsigned other = key_of(x[at]);
            if (other > key) atomicMin(&shared, other);
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) atomicMin(least, shared);
}
