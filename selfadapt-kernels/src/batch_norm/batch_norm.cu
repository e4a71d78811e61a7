// Batch norm on x [B, C, pixels]: moments, the affine map with ReLU, and the gradients; the equations are in mod.rs.
// A plane is a channel of an image; plane b C + c belongs to channel c.

// Mean and sum of squared deviations of each plane; a block takes a plane at a time.
extern "C" __global__ void plane_moments(const float* __restrict__ x, unsigned planes, unsigned pixels,
                                         double* __restrict__ mean, double* __restrict__ squares) {
    for (unsigned plane = blockIdx.x; plane < planes; plane += gridDim.x) {
        const float* values = x + plane * pixels;
        double sum = 0.0;
        for (unsigned i = threadIdx.x; i < pixels; i += THREADS) sum += (double)values[i];
        double middle = block_sum(sum) / pixels;
        sum = 0.0;
        for (unsigned i = threadIdx.x; i < pixels; i += THREADS) {
            double off = (double)values[i] - middle;
            sum += off * off;
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0) {
            mean[plane] = middle;
            squares[plane] = sum;
        }
    }
}

// Mean and biased variance of each channel from those of its planes.
extern "C" __global__ void merge_moments(const double* __restrict__ means, const double* __restrict__ squares,
                                         unsigned batch, unsigned channels, unsigned pixels,
                                         double* __restrict__ mean, double* __restrict__ variance) {
    EACH(c, channels) {
        double sum = 0.0;
        for (unsigned b = 0; b < batch; b++) sum += means[b * channels + c];
        double middle = sum / batch;
        sum = 0.0;
        for (unsigned b = 0; b < batch; b++) {
            double off = means[b * channels + c] - middle;
            sum += squares[b * channels + c] + pixels * off * off;
        }
        mean[c] = middle;
        variance[c] = sum / ((double)batch * pixels);
    }
}

// gamma (x - mean) / sqrt(variance + eps) + beta as x scale + shift.
extern "C" __global__ void fold(const double* __restrict__ mean, const double* __restrict__ variance,
                                const float* __restrict__ gamma, const float* __restrict__ beta, unsigned channels,
                                double eps, double* __restrict__ inverse, float* __restrict__ scale,
                                float* __restrict__ shift) {
    EACH(c, channels) {
        double inv = 1.0 / sqrt(variance[c] + eps);
        double factor = (double)gamma[c] * inv;
        inverse[c] = inv;
        scale[c] = (float)factor;
        shift[c] = (float)((double)beta[c] - mean[c] * factor);
    }
}

// Whether the output is cut off; NaN is not.
static __device__ bool cut(unsigned relu, float y) {
    return relu && y <= 0.0f;
}

extern "C" __global__ void affine(const float* __restrict__ x, unsigned n, unsigned channels, unsigned pixels,
                                  const float* __restrict__ scale, const float* __restrict__ shift, unsigned relu,
                                  float* __restrict__ y) {
    EACH(i, n) {
        unsigned c = i / pixels % channels;
        float value = x[i] * scale[c] + shift[c];
        y[i] = cut(relu, value) ? 0.0f : value;
    }
}

// Of each plane the sum of dy, and of dy (x - mean), where the output is not cut off.
extern "C" __global__ void plane_gradients(const float* __restrict__ x, const float* __restrict__ dy, unsigned planes,
                                           unsigned channels, unsigned pixels, const double* __restrict__ mean,
                                           const float* __restrict__ scale, const float* __restrict__ shift,
                                           unsigned relu, double* __restrict__ sums, double* __restrict__ moments) {
    for (unsigned plane = blockIdx.x; plane < planes; plane += gridDim.x) {
        unsigned c = plane % channels, start = plane * pixels;
        float middle = (float)mean[c];
        double sum = 0.0, moment = 0.0;
        for (unsigned i = start + threadIdx.x; i < start + pixels; i += THREADS) {
            float passed = cut(relu, x[i] * scale[c] + shift[c]) ? 0.0f : dy[i];
            sum += (double)passed;
            moment += (double)(passed * (x[i] - middle));
        }
        sum = block_sum(sum);
        moment = block_sum(moment);
        if (threadIdx.x == 0) {
            sums[plane] = sum;
            moments[plane] = moment;
        }
    }
}

// The gradients by gamma and beta of each channel from the sums of its planes.
extern "C" __global__ void merge_gradients(const double* __restrict__ sums, const double* __restrict__ moments,
                                           const double* __restrict__ inverse, unsigned batch, unsigned channels,
                                           double* __restrict__ by_gamma, double* __restrict__ by_beta) {
    EACH(c, channels) {
        double sum = 0.0, moment = 0.0;
        for (unsigned b = 0; b < batch; b++) {
            sum += sums[b * channels + c];
            moment += moments[b * channels + c];
        }
        by_gamma[c] = moment * inverse[c];
        by_beta[c] = sum;
    }
}

// The gradient by x; through the moments too where `own` says that they are those of x.
extern "C" __global__ void input_gradient(const float* __restrict__ x, const float* __restrict__ dy, unsigned n,
                                          unsigned channels, unsigned pixels, const double* __restrict__ mean,
                                          const double* __restrict__ inverse, const float* __restrict__ scale,
                                          const float* __restrict__ shift, unsigned relu, unsigned own,
                                          const double* __restrict__ by_gamma, const double* __restrict__ by_beta,
                                          float* __restrict__ dx) {
    double count = (double)(n / channels);
    EACH(i, n) {
        unsigned c = i / pixels % channels;
        float passed = cut(relu, x[i] * scale[c] + shift[c]) ? 0.0f : dy[i];
        float slope = 0.0f, offset = 0.0f;
        if (own) {
            slope = (float)(-(double)scale[c] * inverse[c] * by_gamma[c] / count);
            offset = (float)(-(double)scale[c] * by_beta[c] / count);
        }
        dx[i] = passed * scale[c] + ((x[i] - (float)mean[c]) * slope + offset);
    }
}
