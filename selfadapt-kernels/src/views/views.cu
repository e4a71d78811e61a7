// Dihedral views of planes, and running moments over views that are undone.

// Where the view of an h x w plane holds the plane's pixel (y, x): an index into the view.
static __device__ unsigned position(unsigned flip, unsigned turns, unsigned h, unsigned w, unsigned y, unsigned x) {
    if (flip) x = w - 1 - x;
    unsigned width = turns % 2 ? h : w;
    if (turns == 0) return y * width + x;
    if (turns == 1) return (w - 1 - x) * width + y;
    if (turns == 2) return (h - 1 - y) * width + w - 1 - x;
    return x * width + h - 1 - y;
}

// y [planes, h, w] is the view whose inverse is (flip, turns); x holds planes of the size before it.
extern "C" __global__ void turn(const float* __restrict__ x, unsigned n, unsigned h, unsigned w, unsigned flip,
                                unsigned turns, float* __restrict__ y) {
    unsigned pixels = h * w;
    EACH(i, n) {
        unsigned pixel = i % pixels;
        y[i] = x[i - pixel + position(flip, turns, h, w, pixel / w, pixel % w)];
    }
}

// Adds the view (flip, turns) of the network's output x [B, sources, ..] to moments [B, channels, h, w]. Channel c is
// source[c] of the activated x times sign[c]; activation: 0 none, 1 the logistic function, 2 softmax over the sources.
// A thread takes a pixel; n of them.
extern "C" __global__ void accumulate(const float* __restrict__ x, unsigned n, unsigned sources, unsigned channels,
                                      unsigned h, unsigned w, unsigned flip, unsigned turns, unsigned activation,
                                      const unsigned* __restrict__ source, const float* __restrict__ sign, float share,
                                      float* __restrict__ mean, float* __restrict__ squares) {
    unsigned pixels = h * w;
    EACH(i, n) {
        unsigned pixel = i % pixels, image = i / pixels;
        const float* from = x + image * sources * pixels + position(flip, turns, h, w, pixel / w, pixel % w);
        float largest = from[0], total = 0.0f;
        if (activation == 2) {
            for (unsigned k = 1; k < sources; k++) largest = from[k * pixels] > largest ? from[k * pixels] : largest;
            for (unsigned k = 0; k < sources; k++) total += expf(from[k * pixels] - largest);
        }
        for (unsigned c = 0; c < channels; c++) {
            float value = from[source[c] * pixels];
            if (activation == 1) {
                float small = expf(-fabsf(value));
                float winner = 1.0f / (1.0f + small);
                value = value < 0.0f ? small * winner : winner;
            } else if (activation == 2) {
                value = expf(value - largest) / total;
            }
            value *= sign[c];
            unsigned at = (image * channels + c) * pixels + pixel;
            float before = mean[at];
            float off = value - before;
            float after = before + off * share;
            mean[at] = after;
            squares[at] += off * (value - after);
        }
    }
}

// The spread from the sum of squared deviations, in place.
extern "C" __global__ void spread(float* __restrict__ squares, unsigned n, float share) {
    // Rounding may leave the sum of equal views a hair below 0; NaN stays.
    EACH(i, n) squares[i] = squares[i] < 0.0f ? 0.0f : sqrtf(squares[i] * share);
}
