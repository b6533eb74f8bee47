static inline int NAME_softmax(float *x, int count) {
    int best = 0;
    float sum = 0.0f;
    for (int i = 1; i < count; i++) {
        if (x[i] > x[best]) best = i;
    }
    const float largest = x[best];
    for (int i = 0; i < count; i++) {
        x[i] = expf(x[i] - largest);
        sum += x[i];
    }
    for (int i = 0; i < count; i++) x[i] /= sum;
    return best;
}

static inline int NAME_largest(const float *x, int count) {
    int best = 0;
    for (int i = 1; i < count; i++) {
        if (x[i] > x[best]) best = i;
    }
    return best;
}
