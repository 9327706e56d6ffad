
/*
 * Fuzzes the fields of requests.  There is work memory, unless the size of an
 * input is a multiple of four.
 */

#include "ngx_webtorch_window.h"
#include "fuzz_request.h"


#define FUZZ_ROW  4096


typedef struct {
    size_t    bytes;                      /* of values */
    size_t    fields;
    uint64_t  sum;

    ngx_webtorch_windows_t  windows;
} fuzz_seen_t;


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static void
fuzz_field(void *data, const ngx_webtorch_field_t *field)
{
    size_t        i;
    fuzz_seen_t  *seen;

    seen = data;

    fuzz_check(field->place < NGX_WEBTORCH_PLACES, "no such place");
    fuzz_check(field->len > 0 && field->len <= NGX_WEBTORCH_FIELD_PIECE,
               "a value has another length");
    fuzz_check(field->name_len <= NGX_WEBTORCH_FIELD_NAME, "a name is long");
    fuzz_check((field->decoded >> NGX_WEBTORCH_DECODED_BITS) == 0
               && (field->flags >> NGX_WEBTORCH_FIELD_BITS) == 0,
               "there are more bits");

    for (i = 0; i < field->name_len; i++) {
        fuzz_check((unsigned char) field->name[i] >= ' ', "a control byte");
        seen->sum += (unsigned char) field->name[i];
    }

    for (i = 0; i < field->len; i++) {
        seen->sum = seen->sum * 31 + field->value[i];
    }

    seen->bytes += field->len;
    seen->fields++;

    ngx_webtorch_windows_field(&seen->windows, field);
}


static void
fuzz_windows(const ngx_webtorch_windows_t *windows, uint32_t fields)
{
    uint32_t  i;

    fuzz_check(windows->count <= FUZZ_ROW, "the row is longer");
    fuzz_check(windows->nfields == fields, "another number of fields");
    fuzz_check(windows->full || windows->nwindows > fields,
               "a field has no window");

    for (i = 0; i < windows->count; i++) {
        fuzz_check(windows->numbers[i] > 0
                   && windows->numbers[i] <= NGX_WEBTORCH_WINDOW_NUMBERS,
                   "no such number");
        fuzz_check(windows->windows[i] >= (i ? windows->windows[i - 1] : 0)
                   && windows->windows[i] < (int32_t) windows->nwindows,
                   "windows are not in order");
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int32_t                       *numbers, *rows;
    fuzz_seen_t                    seen;
    ngx_webtorch_part_t            parts[FUZZ_PARTS];
    static unsigned char           work[FUZZ_WORK];
    static ngx_webtorch_fields_t   fields;

    fuzz_request_split(parts, data, size);

    memset(&seen, 0, sizeof(seen));

    numbers = malloc(FUZZ_ROW * sizeof(int32_t));
    rows = malloc(FUZZ_ROW * sizeof(int32_t));

    ngx_webtorch_windows_init(&seen.windows, numbers, rows, FUZZ_ROW);
    ngx_webtorch_fields_init(&fields, fuzz_field, &seen);

    if (size % 4) {
        fields.work = work;
        fields.work_size = sizeof(work);
    }

    ngx_webtorch_fields_path(&fields, &parts[0]);
    ngx_webtorch_fields_query(&fields, &parts[1]);
    ngx_webtorch_fields_header(&fields, &parts[4], &parts[5]);
    ngx_webtorch_fields_body(&fields, &parts[2], &parts[3],
                             &parts[FUZZ_LINES]);

    ngx_webtorch_windows_request(&seen.windows, &fields, &parts[4]);
    fuzz_windows(&seen.windows, fields.count);

    free(numbers);
    free(rows);

    fuzz_check(fields.name_len == 0, "a name is left");
    fuzz_check(fields.nested == 0, "a value is open");
    fuzz_check(seen.fields == fields.count, "another number of fields");

    /* a value is a field at most twice, and pieces overlap */

    if (parts[3].len == 0) {
        fuzz_check(seen.bytes <= 4 * size + 64, "the fields are longer");
    }

    fuzz_request_free(parts);

    return 0;
}
