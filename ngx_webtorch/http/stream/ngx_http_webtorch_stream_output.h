
/* Answers of a stream: encoded, and sent in the order of the chunks. */


#ifndef _NGX_HTTP_WEBTORCH_STREAM_OUTPUT_H_INCLUDED_
#define _NGX_HTTP_WEBTORCH_STREAM_OUTPUT_H_INCLUDED_


#include "ngx_http_webtorch_stream_row.h"


/* those of ngx_int_t return NGX_ERROR if there is no memory */

/* from within answered(), of a chunk that has not failed */
void ngx_http_webtorch_stream_row_init(ngx_http_webtorch_stream_t *st,
    webtorch_job_t *job, ngx_http_webtorch_stream_row_t *row);

/* adds the row of a chunk, which is measured */
ngx_int_t ngx_http_webtorch_stream_answer(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_stream_row_t *row);

/* bytes of a payload and its frame, at most */
size_t ngx_http_webtorch_stream_frame_size(ngx_http_webtorch_stream_t *st,
    size_t size);

/* returns where the payload begins */
u_char *ngx_http_webtorch_stream_begin_frame(ngx_http_webtorch_stream_t *st,
    u_char *p, ngx_uint_t error);

/*
 * Takes an answer that was encoded elsewhere: a message with as many bytes in
 * front as answers had that waited then, the beginning of its frame, the
 * payload from start on, and room for the end of the frame.
 */
void ngx_http_webtorch_stream_put_answer(ngx_http_webtorch_stream_t *st,
    ngx_http_webtorch_stream_row_t *row, ngx_webtorch_message_t *m,
    size_t front, size_t start);

/* the payload of that answer, and takes it back before it is sent */
const u_char *ngx_http_webtorch_stream_payload(ngx_http_webtorch_stream_t *st);
void ngx_http_webtorch_stream_drop_answer(ngx_http_webtorch_stream_t *st);

/* adds the next answer, which the record of the stream keeps */
ngx_int_t ngx_http_webtorch_stream_repeat(ngx_http_webtorch_stream_t *st);

/* adds st->err, the last answer */
ngx_int_t ngx_http_webtorch_stream_add_error(ngx_http_webtorch_stream_t *st);

/*
 * The end of a stream over HTTP: the last line, the last event, or the whole
 * answer is the error in st->err; what the client sends after it is not read.
 */
void ngx_http_webtorch_stream_fail(ngx_http_webtorch_stream_t *st);

/* adds a comment, for clients that wait for events */
ngx_int_t ngx_http_webtorch_stream_add_ping(ngx_http_webtorch_stream_t *st);

/* adds a comment between the lines of an incomplete event */
ngx_int_t ngx_http_webtorch_stream_add_comment(ngx_http_webtorch_stream_t *st);

/* adds the bytes of an answer as they are */
ngx_int_t ngx_http_webtorch_stream_add_item(ngx_http_webtorch_stream_t *st,
    const u_char *data, size_t len);

/* adds bytes that are no answer */
ngx_int_t ngx_http_webtorch_stream_add_bytes(ngx_http_webtorch_stream_t *st,
    const u_char *data, size_t len);

/* whether so many answers wait that no chunk is taken */
ngx_uint_t ngx_http_webtorch_stream_full(ngx_http_webtorch_stream_t *st);

/* the answer that can be sent now, none is being sent; NULL: there is none */
ngx_http_webtorch_answer_t *ngx_http_webtorch_stream_take_answer(
    ngx_http_webtorch_stream_t *st);

/* the answer that was taken has been sent */
void ngx_http_webtorch_stream_sent(ngx_http_webtorch_stream_t *st);


#endif /* _NGX_HTTP_WEBTORCH_STREAM_OUTPUT_H_INCLUDED_ */
