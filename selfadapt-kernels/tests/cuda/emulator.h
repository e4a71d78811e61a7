// CUDA's words in C++ on a CPU, to check the numbers of kernels where there is no GPU: blocks run one after another, the
// threads of a block as fibers that take turns where they meet, at __syncthreads(). Only for tests, only one at a time.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>
#include <functional>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __restrict__ __restrict
#define __launch_bounds__(...)

struct Index { unsigned x; };
static Index threadIdx, blockIdx, gridDim, blockDim;
struct alignas(16) float4 { float x, y, z, w; };

namespace emulator {
enum State { READY, WAITING, DONE };
// A fiber is begun by setcontext and from then on entered and left by longjmp, which calls no kernel of the system.
struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    jmp_buf at;
    bool begun;
    State state;
};
static Fiber fibers[1024];
static jmp_buf scheduler;
static unsigned running;
static const std::function<void()>* body;

static void leave(State state) {
    Fiber& fiber = fibers[running];
    fiber.state = state;
    if (_setjmp(fiber.at) == 0) _longjmp(scheduler, 1);
}

static void start() {
    for (;;) {
        (*body)();
        leave(DONE);
    }
}

__attribute__((noinline)) static void enter(Fiber& fiber) {
    if (_setjmp(scheduler) != 0) return;
    if (fiber.begun) _longjmp(fiber.at, 1);
    fiber.begun = true;
    fiber.stack.resize(64 * 1024);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, start, 0);
    setcontext(&fiber.context);
}

// Runs one block; 1 if some threads ended where others wait, which hangs a GPU.
static int run_block(unsigned threads) {
    for (unsigned t = 0; t < threads; t++) fibers[t].state = READY;
    for (;;) {
        unsigned done = 0;
        for (unsigned t = 0; t < threads; t++) {
            if (fibers[t].state != DONE) {
                running = threadIdx.x = t;
                enter(fibers[t]);
            }
            done += fibers[t].state == DONE;
        }
        if (done == threads) return 0;
        if (done > 0) {
            // Those that wait are given up.
            for (Fiber& fiber : fibers) fiber.begun = false;
            return 1;
        }
    }
}

template <class... A, size_t... I>
static int launch(void (*kernel)(A...), unsigned blocks, unsigned threads, void** arguments, std::index_sequence<I...>) {
    std::function<void()> call = [&] { kernel(*static_cast<A*>(arguments[I])...); };
    body = &call;
    gridDim.x = blocks;
    blockDim.x = threads;
    for (unsigned block = 0; block < blocks; block++) {
        blockIdx.x = block;
        if (run_block(threads)) return 1;
    }
    return 0;
}

// What the tests call: like cuLaunchKernel.
template <class... A>
static int launch(void (*kernel)(A...), unsigned blocks, unsigned threads, void** arguments) {
    return launch(kernel, blocks, threads, arguments, std::make_index_sequence<sizeof...(A)>());
}
}  // namespace emulator

static void __syncthreads() { emulator::leave(emulator::WAITING); }

static unsigned atomicAdd(unsigned* at, unsigned value) {
    unsigned before = *at;
    *at = before + value;
    return before;
}

static unsigned atomicMin(unsigned* at, unsigned value) {
    unsigned before = *at;
    if (value < before) *at = value;
    return before;
}

static unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// The nearest number with so many bits of fraction, halves away from zero or to even.
static float round_bits(float value, unsigned bits, bool even) {
    unsigned dropped = 23 - bits, all = __float_as_uint(value);
    if (value != value || value - value != 0.0f) return value;
    unsigned half = 1u << (dropped - 1);
    if (even && !(all >> dropped & 1)) half--;
    return __uint_as_float((all + half) >> dropped << dropped);
}

static float round_tf32(float value) { return round_bits(value, 10, false); }

static unsigned pack_bf16(float low, float high) {
    return __float_as_uint(round_bits(low, 7, true)) >> 16 | (__float_as_uint(round_bits(high, 7, true)) & 0xffff0000u);
}

namespace emulator {
// Factors of each warp, brought by its lanes; the matrices of PTX's mma.m16n8k8.
static float rows[32][16][8], columns[32][8][8];

static void mma(float (&c)[4]) {
    unsigned warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    leave(WAITING);
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < 8; k++) c[i] += rows[warp][g + i / 2 * 8][k] * columns[warp][k][2 * t + i % 2];
    leave(WAITING);
}
}  // namespace emulator

static void mma_tf32(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
    unsigned warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    for (unsigned i = 0; i < 4; i++) emulator::rows[warp][g + i % 2 * 8][t + i / 2 * 4] = a[i];
    for (unsigned i = 0; i < 2; i++) emulator::columns[warp][t + i * 4][g] = b[i];
    emulator::mma(c);
}

static void mma_bf16(float (&c)[4], const unsigned (&a)[2], unsigned b) {
    unsigned warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    auto half = [](unsigned both, unsigned i) { return __uint_as_float(i ? both & 0xffff0000u : both << 16); };
    for (unsigned i = 0; i < 4; i++) emulator::rows[warp][g + i / 2 * 8][2 * t + i % 2] = half(a[i / 2], i % 2);
    for (unsigned i = 0; i < 2; i++) emulator::columns[warp][2 * t + i][g] = half(b, i);
    emulator::mma(c);
}
