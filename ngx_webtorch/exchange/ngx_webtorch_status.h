
/*
 * Statuses of HTTP with the code and the text of their errors.
 */


#ifndef _NGX_WEBTORCH_STATUS_H_INCLUDED_
#define _NGX_WEBTORCH_STATUS_H_INCLUDED_


typedef struct {
    int           status;                 /* 0: any other one */
    const char   *code;                   /* stable, for programs */
    const char   *text;
} ngx_webtorch_status_t;


/* finds nginx's own error of a status */
const ngx_webtorch_status_t *ngx_webtorch_status_find(int status);

/*
 * Returns the code of an error that a function has raised without one; NULL:
 * there is none that would fit.
 */
const char *ngx_webtorch_status_code(int status);


#endif /* _NGX_WEBTORCH_STATUS_H_INCLUDED_ */
