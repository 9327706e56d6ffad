
/*
 * The header lines of a part of a form.
 */


#ifndef _NGX_WEBTORCH_PART_H_INCLUDED_
#define _NGX_WEBTORCH_PART_H_INCLUDED_


#include "ngx_webtorch_multipart.h"


/* the part that is being read */

typedef struct {
    webtorch_form_t       *form;
    webtorch_part_t       *part;
    unsigned               disposition:1;  /* the header was read */
    unsigned               named:1;
    unsigned               filename:1;     /* the parameter without "*" */
    unsigned               typed:1;
    ngx_webtorch_error_t  *err;
} ngx_webtorch_part_reader_t;


/* sets the error of a part, with its number and name; returns -1 */
int ngx_webtorch_part_error(ngx_webtorch_part_reader_t *r, const char *what);

/* sets where a text of the body is */
void ngx_webtorch_part_span(webtorch_span_t *span, const webtorch_form_t *form,
    const char *text, size_t len, int32_t coding);

/*
 * Reads the lines from form->at on, and moves it to the data behind the empty
 * line; -1: the error is set.
 */
int ngx_webtorch_part_read_headers(ngx_webtorch_part_reader_t *r);


#endif /* _NGX_WEBTORCH_PART_H_INCLUDED_ */
