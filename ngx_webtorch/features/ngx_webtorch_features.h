
/*
 * This folder computes the features of requests that models get; the columns
 * are in docs/features.md.  It may include headers of api/ and tensor/, and
 * none of nginx and Python.  Like the codecs it allocates nothing.
 *
 * This header has the list of features.  Text, tokens, columns, and statistics
 * of clients and sites have headers of their own.
 */


#ifndef _NGX_WEBTORCH_FEATURES_H_INCLUDED_
#define _NGX_WEBTORCH_FEATURES_H_INCLUDED_


#include "ngx_webtorch_api.h"


#define NGX_WEBTORCH_ID_LEN  16


typedef enum {
    NGX_WEBTORCH_FEATURE_NGRAMS = 0,
    NGX_WEBTORCH_FEATURE_BYTES,
    NGX_WEBTORCH_FEATURE_TOKENS,
    NGX_WEBTORCH_FEATURE_SEGMENTS,
    NGX_WEBTORCH_FEATURE_PARAMETERS,
    NGX_WEBTORCH_FEATURE_NUMBERS,
    NGX_WEBTORCH_FEATURE_WINDOWS,
    NGX_WEBTORCH_FEATURE_TRAITS,
    NGX_WEBTORCH_FEATURE_NAMES,
    NGX_WEBTORCH_FEATURE_LOGITS,
    NGX_WEBTORCH_FEATURE_PRINTS,
    NGX_WEBTORCH_FEATURE_REQUEST,
    NGX_WEBTORCH_FEATURE_CLIENT,
    NGX_WEBTORCH_FEATURE_SITE,
    NGX_WEBTORCH_FEATURE_OUTCOME,
    NGX_WEBTORCH_FEATURE_ID,
    NGX_WEBTORCH_FEATURE_KEY,
    NGX_WEBTORCH_FEATURE_LOCATION,
    NGX_WEBTORCH_FEATURE_TARGET,
    NGX_WEBTORCH_NFEATURES
} ngx_webtorch_feature_e;


/*
 * Returns the feature for an input of a function.  -1: the mask has no feature
 * of this name, or its dtype or shape differ; the error has the reason.
 */
int ngx_webtorch_feature_find(const webtorch_spec_t *spec, uint32_t mask,
    char *error, size_t len);

/* the bytes of $request_id; zeros if the text is not one */
void ngx_webtorch_features_id(unsigned char *row, const char *id, size_t len);

/* a hash of the key of a client, not negative */
int64_t ngx_webtorch_features_key(const char *key, size_t len);


#endif /* _NGX_WEBTORCH_FEATURES_H_INCLUDED_ */
