"""C code of poolings in 8-bit integers."""

POOLINGS = {
    "max_pool2d": """
static inline void {name}_max_pool2d(const int8_t *x, int8_t *y, const int *g) {{
    /* g: channels, size 2, output size 2, kernel 2, stride 2, padding 2, dilation 2 */
    for (int c = 0; c < g[0]; c++) {{
        for (int i = 0; i < g[3]; i++) {{
            for (int j = 0; j < g[4]; j++) {{
                int8_t best = -128;
                for (int k = 0; k < g[5]; k++) {{
                    for (int l = 0; l < g[6]; l++) {{
                        const int h = i * g[7] - g[9] + k * g[11], w = j * g[8] - g[10] + l * g[12];
                        if (h < 0 || h >= g[1] || w < 0 || w >= g[2]) continue;
                        const int8_t value = x[(c * g[1] + h) * g[2] + w];
                        if (value > best) best = value;
                    }}
                }}
                y[(c * g[3] + i) * g[4] + j] = best;
            }}
        }}
    }}
}}""",
    "adaptive_max_pool2d": """
static inline void {name}_adaptive_max_pool2d(const int8_t *x, int8_t *y, const int *g) {{
    for (int c = 0; c < g[0]; c++) {{
        for (int i = 0; i < g[3]; i++) {{
            const int top = i * g[1] / g[3], bottom = ((i + 1) * g[1] + g[3] - 1) / g[3];
            for (int j = 0; j < g[4]; j++) {{
                const int left = j * g[2] / g[4], right = ((j + 1) * g[2] + g[4] - 1) / g[4];
                int8_t best = -128;
                for (int h = top; h < bottom; h++) {{
                    for (int w = left; w < right; w++) {{
                        const int8_t value = x[(c * g[1] + h) * g[2] + w];
                        if (value > best) best = value;
                    }}
                }}
                y[(c * g[3] + i) * g[4] + j] = best;
            }}
        }}
    }}
}}""",
    "mean": """
/* The mean of a window, rounded to nearest, halves up. */
static inline int8_t {name}_mean(
    const int8_t *x, int width, int top, int bottom, int left, int right, int count, int zero
) {{
    int32_t sum = 0;
    for (int h = top; h < bottom; h++) {{
        for (int w = left; w < right; w++) sum += x[h * width + w] - zero;
    }}
    const int32_t twice = 2 * sum + count, unit = 2 * count;
    const int32_t mean = twice >= 0 ? twice / unit : -((unit - 1 - twice) / unit);
    return {name}_clamp(zero + mean, -128, 127);
}}""",
    "avg_pool2d": """
/* How many rows of a window count: those of the map and of the padding that counts. */
static inline int {name}_counted(int begin, int end, int size, int padding) {{
    if (end > size + padding) end = size + padding;
    return end - (begin < -padding ? -padding : begin);
}}
static inline void {name}_avg_pool2d(const int8_t *x, int8_t *y, const int *g, int zero) {{
    for (int c = 0; c < g[0]; c++) {{
        for (int i = 0; i < g[3]; i++) {{
            for (int j = 0; j < g[4]; j++) {{
                const int t = i * g[7] - g[9], l = j * g[8] - g[10], b = t + g[5], r = l + g[6];
                const int top = t < 0 ? 0 : t, left = l < 0 ? 0 : l;
                const int bottom = b > g[1] ? g[1] : b, right = r > g[2] ? g[2] : r;
                const int count = {name}_counted(t, b, g[1], g[11]) *
                    {name}_counted(l, r, g[2], g[12]);
                y[(c * g[3] + i) * g[4] + j] = {name}_mean(
                    x + c * g[1] * g[2], g[2], top, bottom, left, right, count, zero);
            }}
        }}
    }}
}}""",
    "adaptive_avg_pool2d": """
static inline void {name}_adaptive_avg_pool2d(const int8_t *x, int8_t *y, const int *g, int zero) {{
    for (int c = 0; c < g[0]; c++) {{
        for (int i = 0; i < g[3]; i++) {{
            const int top = i * g[1] / g[3], bottom = ((i + 1) * g[1] + g[3] - 1) / g[3];
            for (int j = 0; j < g[4]; j++) {{
                const int left = j * g[2] / g[4], right = ((j + 1) * g[2] + g[4] - 1) / g[4];
                y[(c * g[3] + i) * g[4] + j] = {name}_mean(
                    x + c * g[1] * g[2], g[2], top, bottom, left, right,
                    (bottom - top) * (right - left), zero);
            }}
        }}
    }}
}}""",
}
