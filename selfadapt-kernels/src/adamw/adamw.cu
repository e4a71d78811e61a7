// AdamW with the pull of L2-SP, and the teacher's moving average, in one pass: the equation is in mod.rs.
extern "C" __global__ void adamw(float* __restrict__ weight, const float* __restrict__ gradient,
                                 const float* __restrict__ anchor, float* __restrict__ first,
                                 float* __restrict__ second, float* __restrict__ teacher, unsigned n, float scale,
                                 float pull, float keep, float first_share, float second_stays, float second_share,
                                 float step, float inverse_root, float eps, float stays, float comes,
                                 double* __restrict__ parts) {
    double distance = 0.0;
    EACH(i, n) {
        float w = weight[i];
        float g = gradient[i] * scale;
        if (pull != 0.0f) {
            float off = w - anchor[i];
            distance += (double)off * (double)off;
            g += off * pull;
        }
        float m = first[i];
        m += (g - m) * first_share;
        float v = second[i] * second_stays + g * g * second_share;
        w = w * keep - step * (m / (sqrtf(v) * inverse_root + eps));
        first[i] = m;
        second[i] = v;
        weight[i] = w;
        if (teacher) teacher[i] = teacher[i] * stays + w * comes;
    }
    distance = block_sum(distance);
    if (threadIdx.x == 0) parts[blockIdx.x] = distance;
}
