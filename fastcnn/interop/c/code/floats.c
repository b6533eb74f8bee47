/* The operations of a network in floats, for one sample. Rows of an output are summed up together,
   so that a compiler can use vectors. */

static inline float NAME_sigmoid(float x) {
    const float e = expf(-fabsf(x));
    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

static inline float NAME_log1p_exp(float x) {
    return (x <= 0.0f ? 0.0f : x) + log1pf(expf(-fabsf(x)));
}

static inline float NAME_normal_cdf(float x) {
    return 0.5f * erfcf(-0.70710678f * x);
}

static inline void NAME_conv2d(
    const float *restrict x, const float *restrict w, const float *b, float *restrict y,
    const int *g
) {
    /* g: channels, height, width, outputs, height, width, kernel 2, stride 2, padding 2,
       dilation 2, groups */
    const int C = g[0], H = g[1], W = g[2], O = g[3], OH = g[4], OW = g[5], KH = g[6], KW = g[7];
    const int SH = g[8], SW = g[9], PH = g[10], PW = g[11], DH = g[12], DW = g[13];
    const int inputs = C / g[14], outputs = O / g[14];
    for (int o = 0; o < O; o++) {
        const float *group = x + o / outputs * inputs * H * W;
        for (int i = 0; i < OH; i++) {
            float *row = y + (o * OH + i) * OW;
            for (int j = 0; j < OW; j++) row[j] = b ? b[o] : 0.0f;
            for (int c = 0; c < inputs; c++) {
                for (int k = 0; k < KH; k++) {
                    const int h = i * SH - PH + k * DH;
                    if (h < 0 || h >= H) continue;
                    for (int l = 0; l < KW; l++) {
                        const float weight = w[((o * inputs + c) * KH + k) * KW + l];
                        const int shift = l * DW - PW, end = (W - shift + SW - 1) / SW;
                        const int first = shift < 0 ? (-shift + SW - 1) / SW : 0;
                        const int last = end < OW ? end : OW;
                        const int from = (c * H + h) * W + shift;
                        /* A stride of 1 has a loop of its own, which compilers turn to vectors. */
                        for (int j = first; SW == 1 && j < last; j++) {
                            row[j] += weight * group[from + j];
                        }
                        for (int j = first; SW != 1 && j < last; j++) {
                            row[j] += weight * group[from + j * SW];
                        }
                    }
                }
            }
        }
    }
}

static inline void NAME_conv_transpose2d(
    const float *restrict x, const float *restrict w, const float *b, float *restrict y,
    const int *g
) {
    /* g: as for conv2d; w has the shape (channels, outputs / groups, kernel 2) */
    const int C = g[0], H = g[1], W = g[2], O = g[3], OH = g[4], OW = g[5], KH = g[6], KW = g[7];
    const int SH = g[8], SW = g[9], PH = g[10], PW = g[11], DH = g[12], DW = g[13];
    const int inputs = C / g[14], outputs = O / g[14];
    for (int o = 0; o < O; o++) {
        for (int i = 0; i < OH * OW; i++) y[o * OH * OW + i] = b ? b[o] : 0.0f;
        for (int c = o / outputs * inputs; c < (o / outputs + 1) * inputs; c++) {
            for (int i = 0; i < H; i++) {
                for (int k = 0; k < KH; k++) {
                    const int h = i * SH - PH + k * DH;
                    if (h < 0 || h >= OH) continue;
                    for (int l = 0; l < KW; l++) {
                        const float weight = w[((c * outputs + o % outputs) * KH + k) * KW + l];
                        for (int j = 0; j < W; j++) {
                            const int at = j * SW - PW + l * DW;
                            if (at < 0 || at >= OW) continue;
                            y[(o * OH + h) * OW + at] += weight * x[(c * H + i) * W + j];
                        }
                    }
                }
            }
        }
    }
}

static inline void NAME_linear(
    const float *restrict x, const float *restrict w, const float *b, float *restrict y, int inputs,
    int outputs
) {
    for (int o = 0; o < outputs; o++) {
        float sum = b ? b[o] : 0.0f;
        for (int i = 0; i < inputs; i++) sum += w[o * inputs + i] * x[i];
        y[o] = sum;
    }
}

static inline void NAME_max_pool2d(const float *x, float *y, const int *g) {
    /* g: channels, height, width, output height, output width, kernel 2, stride 2, padding 2,
       dilation 2 */
    for (int c = 0; c < g[0]; c++) {
        for (int i = 0; i < g[3]; i++) {
            for (int j = 0; j < g[4]; j++) {
                float best = -INFINITY;
                for (int k = 0; k < g[5]; k++) {
                    for (int l = 0; l < g[6]; l++) {
                        const int h = i * g[7] - g[9] + k * g[11];
                        const int w = j * g[8] - g[10] + l * g[12];
                        if (h < 0 || h >= g[1] || w < 0 || w >= g[2]) continue;
                        const float value = x[(c * g[1] + h) * g[2] + w];
                        if (value > best || value != value) best = value;
                    }
                }
                y[(c * g[3] + i) * g[4] + j] = best;
            }
        }
    }
}

static inline void NAME_avg_pool2d(const float *x, float *y, const int *g) {
    /* g: as for max_pool2d up to the padding, and the padding that counts 2 */
    const int end = g[1] + g[11], side = g[2] + g[12];
    for (int c = 0; c < g[0]; c++) {
        for (int i = 0; i < g[3]; i++) {
            for (int j = 0; j < g[4]; j++) {
                float sum = 0.0f;
                int count = 0;
                for (int k = 0; k < g[5]; k++) {
                    for (int l = 0; l < g[6]; l++) {
                        const int h = i * g[7] - g[9] + k, w = j * g[8] - g[10] + l;
                        if (h >= -g[11] && h < end && w >= -g[12] && w < side) count++;
                        if (h < 0 || h >= g[1] || w < 0 || w >= g[2]) continue;
                        sum += x[(c * g[1] + h) * g[2] + w];
                    }
                }
                y[(c * g[3] + i) * g[4] + j] = sum / (float)count;
            }
        }
    }
}

static inline void NAME_adaptive_avg_pool2d(const float *x, float *y, const int *g) {
    /* g: channels, height, width, output height, output width */
    for (int c = 0; c < g[0]; c++) {
        for (int i = 0; i < g[3]; i++) {
            const int top = i * g[1] / g[3], bottom = ((i + 1) * g[1] + g[3] - 1) / g[3];
            for (int j = 0; j < g[4]; j++) {
                const int left = j * g[2] / g[4], right = ((j + 1) * g[2] + g[4] - 1) / g[4];
                float sum = 0.0f;
                for (int h = top; h < bottom; h++) {
                    for (int w = left; w < right; w++) sum += x[(c * g[1] + h) * g[2] + w];
                }
                y[(c * g[3] + i) * g[4] + j] = sum / (float)((bottom - top) * (right - left));
            }
        }
    }
}

static inline void NAME_adaptive_max_pool2d(const float *x, float *y, const int *g) {
    /* g: channels, height, width, output height, output width */
    for (int c = 0; c < g[0]; c++) {
        for (int i = 0; i < g[3]; i++) {
            const int top = i * g[1] / g[3], bottom = ((i + 1) * g[1] + g[3] - 1) / g[3];
            for (int j = 0; j < g[4]; j++) {
                const int left = j * g[2] / g[4], right = ((j + 1) * g[2] + g[4] - 1) / g[4];
                float best = -INFINITY;
                for (int h = top; h < bottom; h++) {
                    for (int w = left; w < right; w++) {
                        const float value = x[(c * g[1] + h) * g[2] + w];
                        if (value > best || value != value) best = value;
                    }
                }
                y[(c * g[3] + i) * g[4] + j] = best;
            }
        }
    }
}

static inline void NAME_normalise(
    const float *x, float *y, const float *w, const float *b, float eps, int centred, const int *g
) {
    for (int a = 0; a < g[0]; a++) {
        for (int j = 0; j < g[2]; j++) {
            const int first = a * g[1] * g[2] + j;
            float mean = 0.0f, square = 0.0f;
            for (int k = 0; centred && k < g[1]; k++) mean += x[first + k * g[2]];
            mean /= (float)g[1];
            for (int k = 0; k < g[1]; k++) {
                const float apart = x[first + k * g[2]] - mean;
                square += apart * apart;
            }
            const float scale = 1.0f / sqrtf(square / (float)g[1] + eps);
            for (int k = 0; k < g[1]; k++) {
                const int i = first + k * g[2], place = i / g[3] % g[4];
                y[i] = (x[i] - mean) * scale * (w ? w[place] : 1.0f) + (b ? b[place] : 0.0f);
            }
        }
    }
}

static inline void NAME_channel_softmax(
    const float *x, float *y, int logarithm, const int *g
) {
    for (int j = 0; j < g[2]; j++) {
        float largest = x[j], sum = 0.0f;
        for (int k = 1; k < g[1]; k++) {
            if (x[j + k * g[2]] > largest) largest = x[j + k * g[2]];
        }
        for (int k = 0; k < g[1]; k++) sum += expf(x[j + k * g[2]] - largest);
        for (int k = 0; k < g[1]; k++) {
            const float value = x[j + k * g[2]] - largest;
            y[j + k * g[2]] = logarithm ? value - logf(sum) : expf(value) / sum;
        }
    }
}

/* at: for each row of the output the two that it lies between, the same of columns; share: of the
   second ones. */
static inline void NAME_bilinear(
    const float *x, float *y, const int *at, const float *share, const int *g
) {
    const int *first = at + 2 * g[3], *second = first + g[4];
    for (int c = 0; c < g[0]; c++) {
        for (int i = 0; i < g[3]; i++) {
            const float *a = x + (c * g[1] + at[i]) * g[2];
            const float *b = x + (c * g[1] + at[g[3] + i]) * g[2];
            for (int j = 0; j < g[4]; j++) {
                const int l = first[j], r = second[j];
                const float left = a[l] + share[i] * (b[l] - a[l]);
                const float right = a[r] + share[i] * (b[r] - a[r]);
                y[(c * g[3] + i) * g[4] + j] = left + share[g[3] + j] * (right - left);
            }
        }
    }
}

static inline void NAME_local_response_norm(
    const float *x, float *y, const int *g, float alpha, float beta, float k
) {
    /* g: channels, pixels, channels that are summed up */
    for (int c = 0; c < g[0]; c++) {
        for (int i = 0; i < g[1]; i++) {
            float sum = 0.0f;
            for (int d = c - g[2] / 2; d < c - g[2] / 2 + g[2]; d++) {
                if (d >= 0 && d < g[0]) sum += x[d * g[1] + i] * x[d * g[1] + i];
            }
            y[c * g[1] + i] = x[c * g[1] + i] * powf(k + alpha * sum, -beta);
        }
    }
}
