
/* Traits of fields, and their names. */

#include "ngx_webtorch_traits.h"
#include "ngx_webtorch_hash.h"

#include <stdio.h>
#include <string.h>


/* a longer part of a path is an identifier, and is not a name */
#define NGX_WEBTORCH_ADDRESS_PART  24

/* parts of a path that are the address, and then any others */
#define NGX_WEBTORCH_ADDRESS_LEN   8


/* bits of an alphabet; punctuation has one for each */

#define NGX_WEBTORCH_ALPHABET_LOWER    0
#define NGX_WEBTORCH_ALPHABET_UPPER    1
#define NGX_WEBTORCH_ALPHABET_DIGIT    2
#define NGX_WEBTORCH_ALPHABET_BLANK    3
#define NGX_WEBTORCH_ALPHABET_HIGH     4
#define NGX_WEBTORCH_ALPHABET_CONTROL  5
#define NGX_WEBTORCH_ALPHABET_SIGNS    6

typedef struct {
    uint32_t  n;                          /* also of parts that are cut */
    size_t    len[NGX_WEBTORCH_ADDRESS_LEN];
    char      names[NGX_WEBTORCH_ADDRESS_LEN][NGX_WEBTORCH_ADDRESS_PART];
} ngx_webtorch_address_t;


/* character kind of each byte; "_", "+", "~", "^" and "`" have none */

#define NGX_WEBTORCH_SIGN(n)  (1U << (NGX_WEBTORCH_ALPHABET_SIGNS + (n)))

static const uint32_t  ngx_webtorch_alphabet[256] = {
    [0x00 ... 0x08] = 1U << NGX_WEBTORCH_ALPHABET_CONTROL,
    ['\t' ... '\n'] = 1U << NGX_WEBTORCH_ALPHABET_BLANK,
    [0x0b ... 0x0c] = 1U << NGX_WEBTORCH_ALPHABET_CONTROL,
    ['\r'] = 1U << NGX_WEBTORCH_ALPHABET_BLANK,
    [0x0e ... 0x1f] = 1U << NGX_WEBTORCH_ALPHABET_CONTROL,
    [' '] = 1U << NGX_WEBTORCH_ALPHABET_BLANK,
    ['0' ... '9'] = 1U << NGX_WEBTORCH_ALPHABET_DIGIT,
    ['A' ... 'Z'] = 1U << NGX_WEBTORCH_ALPHABET_UPPER,
    ['a' ... 'z'] = 1U << NGX_WEBTORCH_ALPHABET_LOWER,
    [0x7f] = 1U << NGX_WEBTORCH_ALPHABET_CONTROL,
    [0x80 ... 0xff] = 1U << NGX_WEBTORCH_ALPHABET_HIGH,
    ['\''] = NGX_WEBTORCH_SIGN(0),
    ['"'] = NGX_WEBTORCH_SIGN(1),
    ['<'] = NGX_WEBTORCH_SIGN(2),
    ['>'] = NGX_WEBTORCH_SIGN(3),
    ['('] = NGX_WEBTORCH_SIGN(4),
    [')'] = NGX_WEBTORCH_SIGN(5),
    [';'] = NGX_WEBTORCH_SIGN(6),
    ['%'] = NGX_WEBTORCH_SIGN(7),
    ['\\'] = NGX_WEBTORCH_SIGN(8),
    ['/'] = NGX_WEBTORCH_SIGN(9),
    ['.'] = NGX_WEBTORCH_SIGN(10),
    ['$'] = NGX_WEBTORCH_SIGN(11),
    ['='] = NGX_WEBTORCH_SIGN(12),
    ['{'] = NGX_WEBTORCH_SIGN(13),
    ['['] = NGX_WEBTORCH_SIGN(14),
    ['|'] = NGX_WEBTORCH_SIGN(15),
    ['&'] = NGX_WEBTORCH_SIGN(16),
    ['#'] = NGX_WEBTORCH_SIGN(17),
    ['*'] = NGX_WEBTORCH_SIGN(18),
    ['-'] = NGX_WEBTORCH_SIGN(19),
    [','] = NGX_WEBTORCH_SIGN(20),
    ['@'] = NGX_WEBTORCH_SIGN(21),
    ['!'] = NGX_WEBTORCH_SIGN(22),
    [':'] = NGX_WEBTORCH_SIGN(23),
    ['?'] = NGX_WEBTORCH_SIGN(24),
    ['}'] = NGX_WEBTORCH_SIGN(13),
    [']'] = NGX_WEBTORCH_SIGN(14)
};


static void ngx_webtorch_address_read(ngx_webtorch_address_t *address,
    const ngx_webtorch_part_t *path);
static char ngx_webtorch_address_char(const char **p, const char *last);
static int ngx_webtorch_address_hex(char c);
static void ngx_webtorch_address_add(ngx_webtorch_address_t *address,
    const char *name, size_t len);
static uint32_t ngx_webtorch_traits_name(const ngx_webtorch_field_t *field);
static void ngx_webtorch_names_append(ngx_webtorch_names_t *names,
    const char *data, size_t len);


int32_t
ngx_webtorch_traits_alphabet(const unsigned char *p, size_t len)
{
    size_t    i;
    uint32_t  bits;

    bits = 0;

    for (i = 0; i < len; i++) {
        bits |= ngx_webtorch_alphabet[p[i]];
    }

    return (int32_t) bits;
}


void
ngx_webtorch_traits_init(ngx_webtorch_traits_t *traits,
    const ngx_webtorch_part_t *path)
{
    traits->address = ngx_webtorch_traits_address(path);
    traits->count = 0;

    memset(&traits->current, 0, sizeof(ngx_webtorch_trait_t));
}


uint32_t
ngx_webtorch_traits_address(const ngx_webtorch_part_t *path)
{
    uint32_t                i, h;
    ngx_webtorch_address_t  address;

    ngx_webtorch_address_read(&address, path);

    h = NGX_WEBTORCH_FNV_BASIS;

    for (i = 0; i < address.n && i < NGX_WEBTORCH_ADDRESS_LEN; i++) {
        h = ngx_webtorch_fnv(h, address.names[i], address.len[i]);
        h = ngx_webtorch_fnv(h, "/", 1);
    }

    return h;
}


/*
 * Reads a path as nginx does to find a location: decoded once, without empty
 * parts and dots.  So a client cannot give an address another key, and unlike
 * r->uri it is the same after a redirect.
 */

static void
ngx_webtorch_address_read(ngx_webtorch_address_t *address,
    const ngx_webtorch_part_t *path)
{
    int          done;
    char         c, name[NGX_WEBTORCH_ADDRESS_PART];
    size_t       len;
    const char  *p, *last;

    address->n = 0;
    len = 0;
    p = path->data;
    last = p + path->len;

    do {
        done = (p == last);
        c = done ? '/' : ngx_webtorch_address_char(&p, last);

        if (c == '/') {
            ngx_webtorch_address_add(address, name, len);
            len = 0;
            continue;
        }

        if (len < NGX_WEBTORCH_ADDRESS_PART) {
            name[len] = c;
        }

        len++;

    } while (!done);
}


static char
ngx_webtorch_address_char(const char **p, const char *last)
{
    int   high, low;
    char  c;

    c = *(*p)++;

    if (c != '%' || last - *p < 2) {
        return c;
    }

    high = ngx_webtorch_address_hex((*p)[0]);
    low = ngx_webtorch_address_hex((*p)[1]);

    if (high < 0 || low < 0) {
        return c;
    }

    *p += 2;

    return (char) (high << 4 | low);
}


static int
ngx_webtorch_address_hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c |= 0x20;

    return (c >= 'a' && c <= 'f') ? c - 'a' + 10 : -1;
}


/*
 * A part is a name if it is short and has neither digits nor unusual
 * characters: others are chosen by clients.
 */

static void
ngx_webtorch_address_add(ngx_webtorch_address_t *address, const char *name,
    size_t len)
{
    int       is_name;
    char      c;
    size_t    i;
    uint32_t  n;

    if (len == 0 || (len == 1 && name[0] == '.')) {
        return;
    }

    if (len == 2 && name[0] == '.' && name[1] == '.') {
        address->n -= (address->n > 0);
        return;
    }

    n = address->n++;

    if (n >= NGX_WEBTORCH_ADDRESS_LEN) {
        return;
    }

    is_name = (len <= NGX_WEBTORCH_ADDRESS_PART);

    for (i = 0; is_name && i < len; i++) {
        c = (char) (name[i] | 0x20);

        is_name = (c >= 'a' && c <= 'z')
                  || name[i] == '_' || name[i] == '-' || name[i] == '.';
    }

    address->len[n] = is_name ? len : 1;
    memcpy(address->names[n], is_name ? name : "*", address->len[n]);
}


void
ngx_webtorch_traits_field(ngx_webtorch_traits_t *traits,
    const ngx_webtorch_field_t *field)
{
    uint32_t               h;
    ngx_webtorch_trait_t  *trait;

    trait = &traits->current;

    h = ngx_webtorch_traits_hash(field);

    trait->field = ngx_webtorch_traits_key(h);
    trait->key = ngx_webtorch_traits_key(ngx_webtorch_mix(traits->address, h));
    trait->len = (int32_t) field->len;
    trait->alphabet = ngx_webtorch_traits_alphabet(field->value, field->len);
}


uint32_t
ngx_webtorch_traits_hash(const ngx_webtorch_field_t *field)
{
    return ngx_webtorch_mix(field->place << 8
                            | (field->flags & (NGX_WEBTORCH_FIELD_KEY
                                               | NGX_WEBTORCH_FIELD_FILENAME
                                               | NGX_WEBTORCH_FIELD_MARKUP
                                               | NGX_WEBTORCH_FIELD_SYNTAX)),
                            ngx_webtorch_traits_name(field));
}


/* names in lower case; a number in them, as of an array, is any number */

static uint32_t
ngx_webtorch_traits_name(const ngx_webtorch_field_t *field)
{
    char      c, before;
    size_t    i;
    uint32_t  h;

    h = NGX_WEBTORCH_FNV_BASIS;
    before = 0;

    for (i = 0; i < field->name_len; i++) {
        c = field->name[i];

        if (c >= 'A' && c <= 'Z') {
            c |= 0x20;

        } else if (c >= '0' && c <= '9') {
            c = '0';

            if (before == '0') {
                continue;
            }
        }

        h = ngx_webtorch_fnv(h, &c, 1);
        before = c;
    }

    return h;
}


void
ngx_webtorch_traits_window(ngx_webtorch_traits_t *traits, uint32_t window)
{
    if (window < NGX_WEBTORCH_MAX_TRAITS) {
        traits->windows[window] = traits->current;
        traits->count = window + 1;
    }
}


void
ngx_webtorch_traits_request(ngx_webtorch_traits_t *traits)
{
    memset(&traits->current, 0, sizeof(ngx_webtorch_trait_t));

    traits->current.key = ngx_webtorch_traits_key(traits->address);
}


void
ngx_webtorch_names_init(ngx_webtorch_names_t *names,
    const ngx_webtorch_part_t *path)
{
    uint32_t                i;
    ngx_webtorch_address_t  address;

    names->len = 0;

    ngx_webtorch_address_read(&address, path);
    ngx_webtorch_names_append(names, "/", 1);

    for (i = 0; i < address.n && i < NGX_WEBTORCH_ADDRESS_LEN; i++) {

        if (i) {
            ngx_webtorch_names_append(names, "/", 1);
        }

        ngx_webtorch_names_append(names, address.names[i], address.len[i]);
    }

    ngx_webtorch_names_append(names, "", 1);
}


void
ngx_webtorch_names_field(ngx_webtorch_names_t *names, uint32_t window,
    const ngx_webtorch_field_t *field)
{
    int   n;
    char  number[16];

    n = snprintf(number, sizeof(number), "%u ", window);

    if (names->len + (size_t) n + field->name_len + 1
        > NGX_WEBTORCH_NAMES_SIZE)
    {
        return;
    }

    ngx_webtorch_names_append(names, number, (size_t) n);
    ngx_webtorch_names_append(names, field->name, field->name_len);
    ngx_webtorch_names_append(names, "", 1);
}


static void
ngx_webtorch_names_append(ngx_webtorch_names_t *names, const char *data,
    size_t len)
{
    if (len > NGX_WEBTORCH_NAMES_SIZE - names->len) {
        len = NGX_WEBTORCH_NAMES_SIZE - names->len;
    }

    memcpy(names->data + names->len, data, len);
    names->len += len;
}


void
ngx_webtorch_features_traits(int32_t *row, uint32_t n,
    const ngx_webtorch_traits_t *traits)
{
    uint32_t                     i, count;
    const ngx_webtorch_trait_t  *trait;

    count = (traits->count < n) ? traits->count : n;

    memset(row, 0, (size_t) NGX_WEBTORCH_TRAIT * n * sizeof(int32_t));

    for (i = 0; i < count; i++) {
        trait = &traits->windows[i];

        row[i] = trait->key;
        row[n + i] = trait->field;
        row[2 * n + i] = trait->len;
        row[3 * n + i] = trait->alphabet;
    }
}


void
ngx_webtorch_features_names(unsigned char *row, uint32_t n,
    const ngx_webtorch_names_t *names)
{
    size_t  len;

    len = (names->len < n) ? names->len : n;

    memcpy(row, names->data, len);
    memset(row + len, 0, n - len);
}
