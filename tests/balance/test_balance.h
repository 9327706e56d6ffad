
/*
 * Common to all cases: a balancer, its servers, a clock that only the case
 * advances, and functions that send requests.
 */


#ifndef _TEST_BALANCE_H_INCLUDED_
#define _TEST_BALANCE_H_INCLUDED_


#include "ngx_webtorch_balance.h"
#include "ngx_webtorch_balance_cost.h"
#include "ngx_webtorch_balance_draw.h"
#include "ngx_webtorch_balance_flight.h"
#include "ngx_webtorch_balance_key.h"
#include "ngx_webtorch_balance_math.h"
#include "ngx_webtorch_balance_outcome.h"
#include "ngx_webtorch_balance_pick.h"
#include "ngx_webtorch_balance_policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define SECOND   1000000ull

#define check(condition)                                                      \
    if (!(condition)) {                                                       \
        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);       \
        exit(1);                                                              \
    }

#define test_case(name)  { #name, name }


typedef struct {
    const char  *name;                  /* NULL ends a list */
    void       (*run)(void);
} test_case_t;


extern const test_case_t  test_clock_cases[];
extern const test_case_t  test_draw_cases[];
extern const test_case_t  test_flight_cases[];
extern const test_case_t  test_key_cases[];
extern const test_case_t  test_outcome_cases[];
extern const test_case_t  test_params_cases[];
extern const test_case_t  test_pick_cases[];
extern const test_case_t  test_random_cases[];
extern const test_case_t  test_refusal_cases[];
extern const test_case_t  test_server_cases[];

extern ngx_webtorch_balance_t            *b;
extern ngx_webtorch_balance_candidate_t   servers[300];
extern uint64_t                           now;


/* a balancer of n servers, with parameters that correct nothing */
void setup(uint32_t n);

/* sends a request to one of the first n servers; returns its index */
uint32_t begin(uint32_t n, uint64_t key, ngx_webtorch_balance_request_t *req);

void end(ngx_webtorch_balance_request_t *req,
    ngx_webtorch_balance_outcome_e how);

/* requests one after the other, each takes the seconds of its server */
void serve(uint32_t n, uint32_t requests, const float *seconds, uint64_t key,
    uint32_t *served);

/* 50 requests for each server, all take the same time */
void warm_up(uint32_t n, float seconds);

/* fails requests to one server until it is ejected; returns how many */
uint32_t fail(uint32_t n, uint32_t server, ngx_webtorch_balance_outcome_e how);


#endif /* _TEST_BALANCE_H_INCLUDED_ */
