// What every kernel knows. This and each operation's .cu also compile as C++ (emulator.h), so they use nothing of CUDA
// but threadIdx, blockIdx, gridDim, __shared__, __syncthreads, float4 and atomics on integers, and no header. (tensor.cu
// has three functions of PTX; emulator.h has them in C++.)

// Threads of a block, and blocks of a kernel that leaves parts of a sum: as cuda/launch.rs and cuda/sums.rs have them.
#define THREADS 256u
#define PARTS 256u

// Asks for so few registers that at least so many blocks fit an SM.
#define BLOCKS_AT_ONCE(n) __launch_bounds__(THREADS, n)

// Goes over 0..n with a stride of the whole grid.
#define EACH(i, n) \
    for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < (n); i += gridDim.x * THREADS)

// The sum of every thread's value, to be called by all threads of a block; the same order on every machine.
static __device__ double block_sum(double value) {
    __shared__ double shared[THREADS];
    __syncthreads();
    shared[threadIdx.x] = value;
    __syncthreads();
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    return shared[0];
}

// The sum of PARTS parts, to be called by all threads of a block.
static __device__ double sum_of_parts(const double* parts) {
    return block_sum(threadIdx.x < PARTS ? parts[threadIdx.x] : 0.0);
}
