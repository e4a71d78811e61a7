// The same tiles multiplied by tensor cores, factors rounded to tf32 (10 bits of fraction) or bf16 (7), sums in f32.
// This has never run on a GPU. The three functions of PTX below are all that is not C++; emulator.h has them in C++, so
// that which lane holds what (PTX ISA, fragments of mma.m16n8k8) is checked where there is no tensor core.

#ifdef __CUDACC__
// The nearest tf32, halves away from zero.
static __device__ float round_tf32(float value) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return __uint_as_float(bits);
}

// Two numbers as bf16, the first in the lower half.
static __device__ unsigned pack_bf16(float low, float high) {
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

// c [16, 8] += a [16, 8] b [8, 8], spread over the lanes of a warp.
static __device__ void mma_tf32(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
          "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
}

static __device__ void mma_bf16(float (&c)[4], const unsigned (&a)[2], unsigned b) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
}
#endif

// What a lane has of the factors: `upper` rows of a step and the same of its other half.
struct Tf32 {
    static __device__ float rounded(float value) { return round_tf32(value); }

    // c += a [rows, 8] b [8, columns], both with numbers of a step in rows, `pitch` and `span` apart.
    static __device__ void add(float (&c)[4], const float* a, unsigned pitch, const float* b, unsigned span, unsigned t) {
        const float* lower_a = a + t * pitch;
        const float* lower_b = b + t * span;
        float of_a[4] = {lower_a[0], lower_a[8], lower_a[4 * pitch], lower_a[4 * pitch + 8]};
        float of_b[2] = {lower_b[0], lower_b[4 * span]};
        mma_tf32(c, of_a, of_b);
    }
};

struct Bf16 {
    // Rounded where they are packed.
    static __device__ float rounded(float value) { return value; }

    static __device__ void add(float (&c)[4], const float* a, unsigned pitch, const float* b, unsigned span, unsigned t) {
        const float* first_a = a + 2 * t * pitch;
        const float* first_b = b + 2 * t * span;
        unsigned of_a[2] = {pack_bf16(first_a[0], first_a[pitch]), pack_bf16(first_a[8], first_a[pitch + 8])};
        mma_bf16(c, of_a, pack_bf16(first_b[0], first_b[span]));
    }
};

// A tile's product: each warp multiplies 32 rows by N / ACROSS columns, in pieces of 16 by 8. A lane has of a piece's sums
// row lane / 4 and that 8 further down, columns 2 (lane % 4) and the next.
template <unsigned M, unsigned N, class Numbers>
struct Tensor {
    // Warps side by side, and pieces of a warp along its columns.
    static const unsigned ACROSS = 8 / (M / 32), PIECES = N / ACROSS / 8;
    float sums[2][PIECES][4];

    static __device__ float rounded(float value) { return Numbers::rounded(value); }

    static __device__ unsigned row() { return threadIdx.x / 32 / ACROSS * 32 + threadIdx.x % 32 / 4; }

    static __device__ unsigned warp_column() { return threadIdx.x / 32 % ACROSS * (N / ACROSS); }

    __device__ void clear() {
        #pragma unroll
        for (unsigned i = 0; i < 8 * PIECES; i++) sums[i / (4 * PIECES)][i / 4 % PIECES][i % 4] = 0.0f;
    }

    __device__ void add(const float4 (*left)[M / 4 + PAD], const float4 (*right)[N / 4 + PAD]) {
        const unsigned pitch = M + 4 * PAD, span = N + 4 * PAD;
        const float* a = (const float*)left + row();
        const float* b = (const float*)right + warp_column() + threadIdx.x % 32 / 4;
        #pragma unroll
        for (unsigned i = 0; i < 2; i++)
            #pragma unroll
            for (unsigned j = 0; j < PIECES; j++)
                Numbers::add(sums[i][j], a + 16 * i, pitch, b + 8 * j, span, threadIdx.x % 4);
    }

    __device__ void store(const Epilogue& out, const Tile& tile) {
        __shared__ float totals[2][M][4 * ACROSS + 1];
        unsigned across = threadIdx.x / 32 % ACROSS * 4 + threadIdx.x % 4;
        for (unsigned i = 0; i < 4; i++) {
            unsigned r = row() + 8 * i;
            float first = 0.0f, second = 0.0f;
            for (unsigned j = 0; j < PIECES; j++) {
                unsigned column = warp_column() + 8 * j + 2 * (threadIdx.x % 4);
                float* pair = sums[i / 2][j] + i % 2 * 2;
                finish<2>(out, tile, tile.channel + r, tile.pixel + column, pair, first, second);
            }
            totals[0][r][across] = first;
            totals[1][r][across] = second;
        }
        leave<M, 4 * ACROSS>(out, tile, totals);
    }

    template <class F>
    __device__ void each(F f) {
        for (unsigned i = 0; i < 8 * PIECES; i++) {
            unsigned piece = i / 4 % PIECES, half = i / (4 * PIECES), k = i % 4;
            f(row() + 16 * half + k / 2 * 8, warp_column() + 8 * piece + 2 * (threadIdx.x % 4) + k % 2,
              sums[half][piece][k]);
        }
    }
};

extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_1x1_narrow_tf32(CONVOLUTION) {
    CONVOLVE(1, 32, 256, Tensor<32, 256, Tf32>)
}
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_1x1_wide_tf32(CONVOLUTION) {
    CONVOLVE(1, 64, 128, Tensor<64, 128, Tf32>)
}
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_3x3_narrow_tf32(CONVOLUTION) {
    CONVOLVE(3, 32, 256, Tensor<32, 256, Tf32>)
}
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_3x3_wide_tf32(CONVOLUTION) {
    CONVOLVE(3, 64, 128, Tensor<64, 128, Tf32>)
}
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_1x1_weight_narrow_tf32(SLICE) {
    ADD_UP(1, 32, Tensor<32, 128, Tf32>)
}
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_1x1_weight_wide_tf32(SLICE) {
    ADD_UP(1, 64, Tensor<64, 128, Tf32>)
}
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_3x3_weight_narrow_tf32(SLICE) {
    ADD_UP(3, 32, Tensor<32, 128, Tf32>)
}
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_3x3_weight_wide_tf32(SLICE) {
    ADD_UP(3, 64, Tensor<64, 128, Tf32>)
}

extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_1x1_narrow_bf16(CONVOLUTION) {
    CONVOLVE(1, 32, 256, Tensor<32, 256, Bf16>)
}
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_1x1_wide_bf16(CONVOLUTION) {
    CONVOLVE(1, 64, 128, Tensor<64, 128, Bf16>)
}
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_3x3_narrow_bf16(CONVOLUTION) {
    CONVOLVE(3, 32, 256, Tensor<32, 256, Bf16>)
}
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_3x3_wide_bf16(CONVOLUTION) {
    CONVOLVE(3, 64, 128, Tensor<64, 128, Bf16>)
}
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_1x1_weight_narrow_bf16(SLICE) {
    ADD_UP(1, 32, Tensor<32, 128, Bf16>)
}
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_1x1_weight_wide_bf16(SLICE) {
    ADD_UP(1, 64, Tensor<64, 128, Bf16>)
}
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_3x3_weight_narrow_bf16(SLICE) {
    ADD_UP(3, 32, Tensor<32, 128, Bf16>)
}
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_3x3_weight_wide_bf16(SLICE) {
    ADD_UP(3, 64, Tensor<64, 128, Bf16>)
}
