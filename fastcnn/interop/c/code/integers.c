/* The operations of a network in 8-bit integers, for one sample; g as for floats. */

static inline int8_t NAME_clamp(int64_t x, int low, int high) {
    return (int8_t)(x < low ? low : x > high ? high : x);
}

/* x / 2**shift, rounded to nearest, halves up. */
static inline int64_t NAME_shifted(int64_t x, int shift) {
    const int64_t unit = (int64_t)1 << shift;
    x += unit / 2;
    return x >= 0 ? x / unit : -((unit - 1 - x) / unit);
}

/* The sum of one output's products; g as in conv2d. */
static inline int32_t NAME_conv2d_sum(
    const int8_t *x, const int8_t *w, const int *g, int zero, int o, int i, int j
) {
    const int inputs = g[0] / g[14], first = o / (g[3] / g[14]) * inputs;
    int32_t sum = 0;
    for (int k = 0; k < g[6]; k++) {
        const int h = i * g[8] - g[10] + k * g[12];
        if (h < 0 || h >= g[1]) continue;
        for (int l = 0; l < g[7]; l++) {
            const int v = j * g[9] - g[11] + l * g[13];
            if (v < 0 || v >= g[2]) continue;
            for (int c = 0; c < inputs; c++) {
                sum += (x[((first + c) * g[1] + h) * g[2] + v] - zero) *
                       w[((o * inputs + c) * g[6] + k) * g[7] + l];
            }
        }
    }
    return sum;
}

/* The sums of 16 pixels next to each other, or fewer: a convolution by kernels of one pixel. */
static inline void NAME_pointwise_sums(
    const int8_t *x, const int8_t *w, int inputs, int pixels, int zero, int count, int32_t *sums
) {
    for (int t = 0; t < 16; t++) sums[t] = 0;
    for (int c = 0; c < inputs; c++) {
        const int8_t *row = x + c * pixels;
        const int32_t weight = w[c];
        for (int t = 0; count == 16 && t < 16; t++) sums[t] += (row[t] - zero) * weight;
        for (int t = 0; count != 16 && t < count; t++) sums[t] += (row[t] - zero) * weight;
    }
}

/* The sum of one output's products: the inputs whose kernels reach it. */
static inline int32_t NAME_conv_transpose2d_sum(
    const int8_t *x, const int8_t *w, const int *g, int zero, int o, int i, int j
) {
    const int inputs = g[0] / g[14], first = o / (g[3] / g[14]) * inputs;
    int32_t sum = 0;
    for (int k = 0; k < g[6]; k++) {
        const int h = i + g[10] - k * g[12];
        if (h < 0 || h % g[8] || h / g[8] >= g[1]) continue;
        for (int l = 0; l < g[7]; l++) {
            const int v = j + g[11] - l * g[13];
            if (v < 0 || v % g[9] || v / g[9] >= g[2]) continue;
            for (int c = 0; c < inputs; c++) {
                sum += (x[((first + c) * g[1] + h / g[8]) * g[2] + v / g[9]] - zero) *
                       w[((o * inputs + c) * g[6] + k) * g[7] + l];
            }
        }
    }
    return sum;
}

static inline int32_t NAME_linear_sum(
    const int8_t *x, const int8_t *w, int inputs, int zero, int o
) {
    int32_t sum = 0;
    for (int i = 0; i < inputs; i++) sum += (x[i] - zero) * w[o * inputs + i];
    return sum;
}

static inline void NAME_max_pool2d(const int8_t *x, int8_t *y, const int *g) {
    /* g: channels, size 2, output size 2, kernel 2, stride 2, padding 2, dilation 2 */
    for (int c = 0; c < g[0]; c++) {
        for (int i = 0; i < g[3]; i++) {
            for (int j = 0; j < g[4]; j++) {
                int8_t best = -128;
                for (int k = 0; k < g[5]; k++) {
                    for (int l = 0; l < g[6]; l++) {
                        const int h = i * g[7] - g[9] + k * g[11], w = j * g[8] - g[10] + l * g[12];
                        if (h < 0 || h >= g[1] || w < 0 || w >= g[2]) continue;
                        const int8_t value = x[(c * g[1] + h) * g[2] + w];
                        if (value > best) best = value;
                    }
                }
                y[(c * g[3] + i) * g[4] + j] = best;
            }
        }
    }
}

static inline void NAME_adaptive_max_pool2d(const int8_t *x, int8_t *y, const int *g) {
    for (int c = 0; c < g[0]; c++) {
        for (int i = 0; i < g[3]; i++) {
            const int top = i * g[1] / g[3], bottom = ((i + 1) * g[1] + g[3] - 1) / g[3];
            for (int j = 0; j < g[4]; j++) {
                const int left = j * g[2] / g[4], right = ((j + 1) * g[2] + g[4] - 1) / g[4];
                int8_t best = -128;
                for (int h = top; h < bottom; h++) {
                    for (int w = left; w < right; w++) {
                        const int8_t value = x[(c * g[1] + h) * g[2] + w];
                        if (value > best) best = value;
                    }
                }
                y[(c * g[3] + i) * g[4] + j] = best;
            }
        }
    }
}

/* The mean of a window, rounded to nearest, halves up. */
static inline int8_t NAME_mean(
    const int8_t *x, int width, int top, int bottom, int left, int right, int count, int zero
) {
    int32_t sum = 0;
    for (int h = top; h < bottom; h++) {
        for (int w = left; w < right; w++) sum += x[h * width + w] - zero;
    }
    const int32_t twice = 2 * sum + count, unit = 2 * count;
    const int32_t mean = twice >= 0 ? twice / unit : -((unit - 1 - twice) / unit);
    return NAME_clamp(zero + mean, -128, 127);
}

/* How many rows of a window count: those of the map and of the padding that counts. */
static inline int NAME_counted(int begin, int end, int size, int padding) {
    if (end > size + padding) end = size + padding;
    return end - (begin < -padding ? -padding : begin);
}

static inline void NAME_avg_pool2d(const int8_t *x, int8_t *y, const int *g, int zero) {
    for (int c = 0; c < g[0]; c++) {
        for (int i = 0; i < g[3]; i++) {
            for (int j = 0; j < g[4]; j++) {
                const int t = i * g[7] - g[9], l = j * g[8] - g[10], b = t + g[5], r = l + g[6];
                const int top = t < 0 ? 0 : t, left = l < 0 ? 0 : l;
                const int bottom = b > g[1] ? g[1] : b, right = r > g[2] ? g[2] : r;
                const int count =
                    NAME_counted(t, b, g[1], g[11]) * NAME_counted(l, r, g[2], g[12]);
                y[(c * g[3] + i) * g[4] + j] = NAME_mean(
                    x + c * g[1] * g[2], g[2], top, bottom, left, right, count, zero);
            }
        }
    }
}

static inline void NAME_adaptive_avg_pool2d(const int8_t *x, int8_t *y, const int *g, int zero) {
    for (int c = 0; c < g[0]; c++) {
        for (int i = 0; i < g[3]; i++) {
            const int top = i * g[1] / g[3], bottom = ((i + 1) * g[1] + g[3] - 1) / g[3];
            for (int j = 0; j < g[4]; j++) {
                const int left = j * g[2] / g[4], right = ((j + 1) * g[2] + g[4] - 1) / g[4];
                y[(c * g[3] + i) * g[4] + j] = NAME_mean(
                    x + c * g[1] * g[2], g[2], top, bottom, left, right,
                    (bottom - top) * (right - left), zero);
            }
        }
    }
}

static inline void NAME_normalise(
    const int8_t *x, int8_t *y, const int32_t *w, const int32_t *b, double summand, int centred,
    int zero, int output_zero, const int *g
) {
    for (int a = 0; a < g[0]; a++) {
        for (int j = 0; j < g[2]; j++) {
            const int first = a * g[1] * g[2] + j;
            int64_t sum = 0, squares = 0;
            for (int k = 0; k < g[1]; k++) {
                const int value = x[first + k * g[2]] - zero;
                sum += centred ? value : 0;
                squares += value * value;
            }
            /* 1 / (size * standard deviation), UNIT_BITS bits up: multiplier / 2**shift */
            const double variance = (double)(g[1] * squares - sum * sum) + summand;
            const double inverse = variance > 0.0 ? (double)(1 << UNIT_BITS) / sqrt(variance) : 0.0;
            int exponent = 0;
            const double mantissa = frexp(inverse, &exponent);
            const int64_t multiplier = (int64_t)(mantissa * 2147483648.0 + 0.5);
            const int wanted = 31 - exponent;
            const int shift = wanted < 1 ? 1 : wanted > 62 ? 62 : wanted;
            for (int k = 0; k < g[1]; k++) {
                const int i = first + k * g[2], place = i / g[3];
                const int64_t apart = (int64_t)g[1] * (x[i] - zero) - sum;
                const int64_t unit = NAME_shifted(apart * multiplier, shift);
                const int64_t bias = b ? (int64_t)b[place % g[4]] * (1 << UNIT_BITS) : 0;
                const int64_t total = unit * w[place % g[5]] + bias;
                const int64_t made = NAME_shifted(total, UNIT_BITS + FACTOR_BITS);
                y[i] = NAME_clamp(made + output_zero, -128, 127);
            }
        }
    }
}

/* e: exponentials of how far a number is below the largest; the result is in shares of 256. */
static inline void NAME_channel_softmax(
    const int8_t *x, int8_t *y, const int32_t *e, const int *g
) {
    for (int j = 0; j < g[2]; j++) {
        int largest = x[j];
        int64_t sum = 0;
        for (int k = 1; k < g[1]; k++) {
            if (x[j + k * g[2]] > largest) largest = x[j + k * g[2]];
        }
        for (int k = 0; k < g[1]; k++) sum += e[largest - x[j + k * g[2]]];
        for (int k = 0; k < g[1]; k++) {
            const int64_t power = e[largest - x[j + k * g[2]]];
            y[j + k * g[2]] = NAME_clamp((512 * power + sum) / (2 * sum) - 128, -128, 127);
        }
    }
}

/* at: for each row of the output the two that it lies between and the second's share of
   1 << SHARE_BITS, then the same of columns. */
static inline void NAME_bilinear(
    const int8_t *x, int8_t *y, const int16_t *at, int zero, const int *g
) {
    const int16_t *columns = at + 3 * g[3];
    for (int c = 0; c < g[0]; c++) {
        for (int i = 0; i < g[3]; i++) {
            const int8_t *a = x + (c * g[1] + at[i]) * g[2];
            const int8_t *b = x + (c * g[1] + at[g[3] + i]) * g[2];
            const int32_t p = at[2 * g[3] + i], other = (1 << SHARE_BITS) - p;
            for (int j = 0; j < g[4]; j++) {
                const int l = columns[j], r = columns[g[4] + j];
                const int32_t q = columns[2 * g[4] + j];
                const int32_t left = other * (a[l] - zero) + p * (b[l] - zero);
                const int32_t right = other * (a[r] - zero) + p * (b[r] - zero);
                const int32_t total = ((1 << SHARE_BITS) - q) * left + q * right;
                const int64_t made = NAME_shifted(total, 2 * SHARE_BITS);
                y[(c * g[3] + i) * g[4] + j] = (int8_t)(zero + made);
            }
        }
    }
}
