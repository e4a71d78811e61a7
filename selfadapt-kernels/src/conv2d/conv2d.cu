// Convolution with stride 1 and same padding as an implicit matrix product: filters [taps, Ci, Co] by the pixels around
// each pixel. Gradients by data are the same product with turned filters; those by weight sum over pixels in slices.
//
// A block multiplies a tile of M channels by N pixels, M N = 8192, DEPTH channels of one tap at a time: 8 x 4 numbers a
// thread in registers, tiles of both factors twice in shared memory, so that one is filled while the other is multiplied
// and a chunk costs one barrier. What that comes to on an H100 (counted, never measured): a thread's chunk is 256
// multiply-adds, 24 loads of four numbers from shared memory, 4 (M = 64) or 8 (M = 32) pixels to read at 9 to 12
// instructions each, and some 20 for filters, addresses and the loop, about 340 to 400 instructions or 65 to 75 % of the
// multiply-adds that a scheduler can issue. Lanes of a warp lie 4 x 8, so a step's loads are 384 bytes a warp, 3 of the
// 8 cycles that its 32 multiply-adds take. From the caches come 3 numbers a cycle, 12 bytes of some 24 that an SM gets
// from L2. Fewer than 128 registers and 48 KB leave 2 blocks or 16 warps an SM, each with 32 sums that do not wait for each
// other, to hide latency. What waves of blocks that are not whole cost comes on top: at 28 x 28 x 256 channels and batch
// 8, 224 blocks for 132 SMs.

// Filters [taps, rows, columns], zero beyond the channels, of weight [Co, Ci, taps]: rows are Ci and columns Co, or for
// the gradient by data the other way round and turned.
extern "C" __global__ void conv2d_pack(const float* __restrict__ weight, unsigned n, unsigned co, unsigned ci,
                                       unsigned taps, unsigned rows, unsigned columns, unsigned turned,
                                       float* __restrict__ filters) {
    EACH(i, n) {
        unsigned column = i % columns, row = i / columns % rows, tap = i / (rows * columns);
        unsigned o = turned ? row : column, c = turned ? column : row;
        unsigned from = turned ? taps - 1 - tap : tap;
        filters[i] = o < co && c < ci ? weight[(o * ci + c) * taps + from] : 0.0f;
    }
}

// A thread's place in a tile of rows x (N / 4) pieces: the lanes of a warp lie 4 x 8.
struct Place {
    unsigned row, column;
};

template <unsigned N>
static __device__ Place place() {
    const unsigned across = N / 32;
    unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    Place place = {warp / across * 4 + lane / 8, warp % across * 8 + lane % 8};
    return place;
}

static __device__ void multiply_row(float a, float4 b, float (&sums)[4]) {
    sums[0] = fmaf(a, b.x, sums[0]);
    sums[1] = fmaf(a, b.y, sums[1]);
    sums[2] = fmaf(a, b.z, sums[2]);
    sums[3] = fmaf(a, b.w, sums[3]);
}

static __device__ void multiply_rows(float4 a, float4 b, float (*sums)[4]) {
    multiply_row(a.x, b, sums[0]);
    multiply_row(a.y, b, sums[1]);
    multiply_row(a.z, b, sums[2]);
    multiply_row(a.w, b, sums[3]);
}

// A tile's product in f32: R x 4 sums a thread.
template <unsigned M, unsigned N, unsigned R>
struct Plain {
    float sums[R][4];

    static __device__ float rounded(float value) { return value; }

    __device__ void clear() {
        #pragma unroll
        for (unsigned i = 0; i < R * 4; i++) sums[i / 4][i % 4] = 0.0f;
    }

    // Adds the product of DEPTH rows of both factors.
    __device__ void add(const float4 (*left)[M / 4 + PAD], const float4 (*right)[N / 4 + PAD]) {
        Place at = place<N>();
        #pragma unroll
        for (unsigned k = 0; k < DEPTH; k++) {
            float4 b = right[k][at.column];
            #pragma unroll
            for (unsigned i = 0; i < R / 4; i++) multiply_rows(left[k][at.row * (R / 4) + i], b, sums + 4 * i);
        }
    }

    __device__ void store(const Epilogue& out, const Tile& tile) {
        __shared__ float totals[2][M][N / 4 + 1];
        Place at = place<N>();
        for (unsigned i = 0; i < R; i++) {
            unsigned row = at.row * R + i;
            float first = 0.0f, second = 0.0f;
            finish<4>(out, tile, tile.channel + row, tile.pixel + at.column * 4, sums[i], first, second);
            totals[0][row][at.column] = first;
            totals[1][row][at.column] = second;
        }
        leave<M, N / 4>(out, tile, totals);
    }

    // Calls `f` with the row, the column and the number of each sum.
    template <class F>
    __device__ void each(F f) {
        Place at = place<N>();
        for (unsigned i = 0; i < R * 4; i++) f(at.row * R + i / 4, at.column * 4 + i % 4, sums[i / 4][i % 4]);
    }
};

// Few output channels and many pixels a tile, or more channels; a block for each tile of each image.
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_1x1_narrow(CONVOLUTION) { CONVOLVE(1, 32, 256, Plain<32, 256, 8>) }
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_1x1_wide(CONVOLUTION) { CONVOLVE(1, 64, 128, Plain<64, 128, 8>) }
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_3x3_narrow(CONVOLUTION) { CONVOLVE(3, 32, 256, Plain<32, 256, 8>) }
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_3x3_wide(CONVOLUTION) { CONVOLVE(3, 64, 128, Plain<64, 128, 8>) }

// Sums [n] of parts [count, n], in their order.
extern "C" __global__ void conv2d_sums(const double* __restrict__ parts, unsigned n, unsigned planes, unsigned count,
                                       double* __restrict__ sums) {
    EACH(i, n) {
        const double* from = parts + i / planes * count * planes + i % planes;
        double sum = 0.0;
        for (unsigned part = 0; part < count; part++) sum += from[part * planes];
        sums[i] = sum;
    }
}

// Few output channels or more; a block for each tile of each slice.
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_1x1_weight_narrow(SLICE) { ADD_UP(1, 32, Plain<32, 128, 4>) }
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_1x1_weight_wide(SLICE) { ADD_UP(1, 64, Plain<64, 128, 8>) }
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_3x3_weight_narrow(SLICE) { ADD_UP(3, 32, Plain<32, 128, 4>) }
extern "C" BLOCKS_AT_ONCE(2) __global__ void conv2d_3x3_weight_wide(SLICE) { ADD_UP(3, 64, Plain<64, 128, 8>) }

// The gradient by weight [Co, Ci, taps], n numbers, from parts [slices, Co, taps Ci].
extern "C" __global__ void conv2d_merge_weight(const float* __restrict__ parts, unsigned n, unsigned slices, unsigned ci,
                                               unsigned taps, float* __restrict__ by_weight) {
    EACH(i, n) {
        unsigned tap = i % taps, c = i / taps % ci, o = i / (taps * ci);
        const float* from = parts + (o * taps + tap) * ci + c;
        double sum = 0.0;
        for (unsigned slice = 0; slice < slices; slice++) sum += (double)from[slice * n];
        by_weight[i] = (float)sum;
    }
}

// The gradient by bias [Co]: the sum of the gradient over images and pixels; a block takes a channel at a time.
extern "C" __global__ void conv2d_bias_gradient(const float* __restrict__ gradient, unsigned batch, unsigned channels,
                                                unsigned pixels, float* __restrict__ by_bias) {
    for (unsigned c = blockIdx.x; c < channels; c += gridDim.x) {
        double sum = 0.0;
        for (unsigned b = 0; b < batch; b++) {
            const float* plane = gradient + (b * channels + c) * pixels;
            for (unsigned i = threadIdx.x; i < pixels; i += THREADS) sum += (double)plane[i];
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0) by_bias[c] = (float)sum;
    }
}
