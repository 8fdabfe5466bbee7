// Arguments of the kernels for rows as they are stored: groups of 16 rows, stride bytes apart, nb blocks of 32 columns
// each, times one token.
struct gemv {
    float *y;
    const uint8_t *w;
    const int8_t *q;
    const float *d;
    const float *g;
    const int32_t *c;
    long stride;
    long nb;
    long groups;
    const void *table;
    // The kernel's own: there are too few registers to keep these elsewhere.
    float *out;
    const uint8_t *row;
    long left;
};

#define START(a) (a)->out = (a)->y, (a)->row = (a)->w, (a)->left = (a)->groups
#define NEXT(a) ((a)->out += 16, (a)->row += 16 * (a)->stride, --(a)->left)
