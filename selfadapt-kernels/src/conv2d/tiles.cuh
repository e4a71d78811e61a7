// What convolutions have in common, however they multiply: reading, tiles, storing.

// Channels, or pixels, that a tile multiplies at a time.
#define DEPTH 8u
// Fours of numbers more than a row of a tile has, so that those of neighbouring rows lie in different banks.
#define PAD 2u
// Columns of a tile of a gradient by weight, and pixels that are brought in at a time.
#define WIDE 128u
#define RUN 16u

// A tensor [B, C, H, W] as it is read: relu(scale[c] x + shift[b, c] + along[c] second), zero around it.
struct Operand {
    const float* values;
    const float* scale;
    const float* shift;
    unsigned pitch;  // of shift, from one image to the next: 0 or C
    const float* second;
    const float* along;
    unsigned relu;
};

#define OPERAND(o)                                                                                       \
    const float *__restrict__ o##_values, const float *__restrict__ o##_scale,                           \
        const float *__restrict__ o##_shift, unsigned o##_pitch, const float *__restrict__ o##_second,   \
        const float *__restrict__ o##_along, unsigned o##_relu
#define THE(o) {o##_values, o##_scale, o##_shift, o##_pitch, o##_second, o##_along, o##_relu}

// The operand where it holds `value` and `second`, channel c of image b.
static __device__ float changed(const Operand& o, unsigned b, unsigned c, float value, float second) {
    if (o.scale) value = fmaf(value, o.scale[c], o.shift[b * o.pitch + c]);
    if (o.second) value = fmaf(second, o.along[c], value);
    return o.relu && value <= 0.0f ? 0.0f : value;
}

// What happens to a result y [B, C, H, W] while it is stored: gate(y + bias[c] + residual), kept where
// scale[c] values + shift[b, c] > 0, and sums of what is stored.
struct Epilogue {
    const float* bias;
    const float* residual;
    const float* values;
    const float* scale;
    const float* shift;
    unsigned pitch;
    unsigned gated;
    unsigned sums;  // 0 none, 1 of v - center and its square, 2 of v and v (values - center)
    const float* center;
    double* parts;  // [2, tiles, B, C]
    float* y;
};

// A block's tile: channels from `channel` on by pixels from `pixel` on of an image; number `number` of `count` along them.
struct Tile {
    unsigned images, image, channels, channel, pixels, pixel, number, count;
};

// Stores W numbers of a row of pixels of channel c, from `pixel` on, and adds them to the row's two sums.
template <unsigned W>
static __device__ void finish(const Epilogue& out, const Tile& tile, unsigned c, unsigned pixel, float* v, float& first,
                              float& second) {
    if (c >= tile.channels || pixel >= tile.pixels) return;
    unsigned from = (tile.image * tile.channels + c) * tile.pixels + pixel;
    // Four numbers at a time where rows of four stay aligned from plane to plane.
    bool whole = W == 4 && tile.pixels % 4 == 0;
    float4 none = {0.0f, 0.0f, 0.0f, 0.0f};
    float4 before = whole && out.residual ? *(const float4*)(out.residual + from) : none;
    float4 seen = whole && out.values ? *(const float4*)(out.values + from) : none;
    float residual[4] = {before.x, before.y, before.z, before.w};
    float values[4] = {seen.x, seen.y, seen.z, seen.w};
    float bias = out.bias ? out.bias[c] : 0.0f, center = out.sums ? out.center[c] : 0.0f;
    float scale = out.gated ? out.scale[c] : 0.0f;
    float shift = out.gated ? out.shift[tile.image * out.pitch + c] : 0.0f;
    #pragma unroll
    for (unsigned j = 0; j < W; j++) {
        if (pixel + j >= tile.pixels) continue;
        if (!whole && out.residual) residual[j] = out.residual[from + j];
        if (!whole && out.values) values[j] = out.values[from + j];
        v[j] = v[j] + bias + residual[j];
        if (out.gated && !(fmaf(values[j], scale, shift) > 0.0f)) v[j] = 0.0f;
        float off = v[j] - center;
        first += out.sums == 1 ? off : v[j];
        second += out.sums == 1 ? off * off : v[j] * (values[j] - center);
        if (!whole) out.y[from + j] = v[j];
    }
    if (whole) {
        float4 result = {v[0], v[1], v[2 % W], v[3 % W]};
        *(float4*)(out.y + from) = result;
    }
}

// Leaves the sums of a tile's M channels, of which each piece of a row has its own in `totals`.
template <unsigned M, unsigned PIECES>
static __device__ void leave(const Epilogue& out, const Tile& tile, float (&totals)[2][M][PIECES + 1]) {
    if (out.sums == 0) return;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < 2 * M; i += THREADS) {
        unsigned which = i / M, c = tile.channel + i % M;
        if (c >= tile.channels) continue;
        double sum = 0.0;
        for (unsigned j = 0; j < PIECES; j++) sum += (double)totals[which][i % M][j];
        out.parts[((which * tile.count + tile.number) * tile.images + tile.image) * tile.channels + c] = sum;
    }
}

// A tile of the convolution, multiplied by `Product`.
template <unsigned SIDE, unsigned M, unsigned N, class Product>
static __device__ void convolve(const Operand& in, unsigned batch, unsigned inputs, unsigned outputs, unsigned height,
                                unsigned width, const float* filters, const Epilogue& out) {
    __shared__ float4 left[2][DEPTH][M / 4 + PAD];
    __shared__ float4 right[2][DEPTH][N / 4 + PAD];
    const unsigned STEP = THREADS / N, COUNT = DEPTH / STEP;
    unsigned pixels = height * width, tiles = (pixels + N - 1) / N, across = (outputs + M - 1) / M;
    // Neighbouring blocks read the same pixels.
    unsigned number = blockIdx.x / across % tiles, b = blockIdx.x / (across * tiles);
    Tile tile = {batch, b, outputs, blockIdx.x % across * M, pixels, number * N, number, tiles};

    // The pixel and the channels, STEP apart, that this thread brings in; the filters likewise.
    unsigned column = threadIdx.x % N, first = threadIdx.x / N;
    unsigned pixel = tile.pixel + column, y = pixel / width, x = pixel % width;
    unsigned groups = (inputs + DEPTH - 1) / DEPTH, chunks = SIDE * SIDE * groups;
    bool brings_filters = threadIdx.x < DEPTH * M / 4;
    unsigned filter_row = threadIdx.x / (M / 4), filter_piece = threadIdx.x % (M / 4);
    const float4* filter = (const float4*)(filters + filter_row * across * M + tile.channel) + filter_piece;
    float values[COUNT], seconds[COUNT];
    float4 brought = {0.0f, 0.0f, 0.0f, 0.0f};
    unsigned tap = 0, group = 0, channel = 0;
    bool inside = false;

    // Asks for the chunk of `tap` and `group`, and goes on to the next.
    auto fetch = [&]() {
        unsigned iy = y + tap / SIDE - SIDE / 2, ix = x + tap % SIDE - SIDE / 2;
        // Beyond the upper and left border they wrap around to large numbers.
        inside = pixel < pixels && iy < height && ix < width;
        channel = group * DEPTH + first;
        unsigned at = (b * inputs + channel) * pixels + iy * width + ix;
        #pragma unroll
        for (unsigned i = 0; i < COUNT; i++) {
            bool there = inside && channel + i * STEP < inputs;
            values[i] = there ? in.values[at + i * STEP * pixels] : 0.0f;
            seconds[i] = there && in.second ? in.second[at + i * STEP * pixels] : 0.0f;
        }
        if (brings_filters) brought = *filter;
        filter += DEPTH * across * M / 4;
        if (++group == groups) {
            group = 0;
            tap++;
        }
    };
    // Puts what was asked for into one of the buffers.
    auto keep = [&](unsigned buffer) {
        #pragma unroll
        for (unsigned i = 0; i < COUNT; i++) {
            unsigned c = channel + i * STEP;
            float value = inside && c < inputs ? changed(in, b, c, values[i], seconds[i]) : 0.0f;
            ((float*)right[buffer][first + i * STEP])[column] = Product::rounded(value);
        }
        float4 filter_of = {Product::rounded(brought.x), Product::rounded(brought.y), Product::rounded(brought.z),
                            Product::rounded(brought.w)};
        if (brings_filters) left[buffer][filter_row][filter_piece] = filter_of;
    };

    Product product;
    product.clear();
    fetch();
    keep(0);
    __syncthreads();
    for (unsigned chunk = 0; chunk < chunks; chunk++) {
        unsigned buffer = chunk % 2;
        if (chunk + 1 < chunks) fetch();
        product.add(left[buffer], right[buffer]);
        if (chunk + 1 < chunks) keep(1 - buffer);
        __syncthreads();
    }
    product.store(out, tile);
}

#define CONVOLUTION                                                                                                  \
    OPERAND(in), unsigned batch, unsigned inputs, unsigned outputs, unsigned height, unsigned width,                 \
        const float *__restrict__ filters, const float *__restrict__ bias, const float *__restrict__ residual,       \
        const float *__restrict__ values, const float *__restrict__ scale, const float *__restrict__ shift,          \
        unsigned pitch, unsigned gated, unsigned sums, const float *__restrict__ center, double *__restrict__ parts, \
        float *__restrict__ y
#define CONVOLVE(side, m, n, ...)                                                             \
    Operand operand = THE(in);                                                                \
    Epilogue out = {bias, residual, values, scale, shift, pitch, gated, sums, center, parts, y}; \
    convolve<side, m, n, __VA_ARGS__>(operand, batch, inputs, outputs, height, width, filters, out);

// A slice's share of the gradient by weight [Co, taps Ci]: gradients [M, pixels] by inputs [pixels, WIDE], RUN pixels at
// a time, multiplied by `Product`. A slice sums at most `length` pixels of all images, in their order.
template <unsigned SIDE, unsigned M, class Product>
static __device__ void weight_slice(const Operand& in, const Operand& gradient, unsigned batch, unsigned inputs,
                                    unsigned outputs, unsigned height, unsigned width, unsigned length, float* parts) {
    __shared__ float4 left[2][RUN][M / 4 + PAD];
    __shared__ float4 right[2][RUN][WIDE / 4 + PAD];
    unsigned pixels = height * width, columns = SIDE * SIDE * inputs;
    unsigned across = (outputs + M - 1) / M, along = (columns + WIDE - 1) / WIDE;
    unsigned o0 = blockIdx.x % across * M, n0 = blockIdx.x / across % along * WIDE, slice = blockIdx.x / (across * along);
    unsigned from = slice * length, all = batch * pixels, end = from + length < all ? from + length : all;

    // The pixel of a run, and the rows and columns, 16 apart, that this thread brings in.
    unsigned run = threadIdx.x % RUN, first = threadIdx.x / RUN;
    unsigned taps[WIDE / 16], channels[WIDE / 16];
    #pragma unroll
    for (unsigned j = 0; j < WIDE / 16; j++) {
        unsigned n = n0 + first + 16 * j;
        taps[j] = n / inputs;
        channels[j] = n % inputs;
    }
    float lefts[M / 16], rights[WIDE / 16];
    auto fetch = [&](unsigned start) {
        unsigned p = start + run, b = p / pixels, pixel = p % pixels, y = pixel / width, x = pixel % width;
        #pragma unroll
        for (unsigned i = 0; i < M / 16; i++) {
            unsigned o = o0 + first + 16 * i, at = (b * outputs + o) * pixels + pixel;
            bool there = p < end && o < outputs;
            float second = there && gradient.second ? gradient.second[at] : 0.0f;
            lefts[i] = there ? changed(gradient, b, o, gradient.values[at], second) : 0.0f;
        }
        #pragma unroll
        for (unsigned j = 0; j < WIDE / 16; j++) {
            unsigned iy = y + taps[j] / SIDE - SIDE / 2, ix = x + taps[j] % SIDE - SIDE / 2, c = channels[j];
            unsigned at = (b * inputs + c) * pixels + iy * width + ix;
            bool there = p < end && taps[j] < SIDE * SIDE && iy < height && ix < width;
            float second = there && in.second ? in.second[at] : 0.0f;
            rights[j] = there ? changed(in, b, c, in.values[at], second) : 0.0f;
        }
    };
    auto keep = [&](unsigned buffer) {
        #pragma unroll
        for (unsigned i = 0; i < M / 16; i++) ((float*)left[buffer][run])[first + 16 * i] = Product::rounded(lefts[i]);
        #pragma unroll
        for (unsigned j = 0; j < WIDE / 16; j++) ((float*)right[buffer][run])[first + 16 * j] = Product::rounded(rights[j]);
    };

    Product product;
    product.clear();
    fetch(from);
    keep(0);
    __syncthreads();
    unsigned buffer = 0;
    for (unsigned start = from; start < end; start += RUN) {
        bool more = start + RUN < end;
        if (more) fetch(start + RUN);
        for (unsigned k = 0; k < RUN; k += DEPTH) product.add(left[buffer] + k, right[buffer] + k);
        if (more) keep(1 - buffer);
        buffer = 1 - buffer;
        __syncthreads();
    }
    product.each([&](unsigned row, unsigned column, float sum) {
        unsigned o = o0 + row, n = n0 + column;
        if (o < outputs && n < columns) parts[(slice * outputs + o) * columns + n] = sum;
    });
}

#define SLICE                                                                                        \
    OPERAND(in), OPERAND(gradient), unsigned batch, unsigned inputs, unsigned outputs, unsigned height, \
        unsigned width, unsigned length, float *__restrict__ parts
#define ADD_UP(side, m, ...)                                \
    Operand operand = THE(in), by_output = THE(gradient);   \
    weight_slice<side, m, __VA_ARGS__>(operand, by_output, batch, inputs, outputs, height, width, length, parts);

