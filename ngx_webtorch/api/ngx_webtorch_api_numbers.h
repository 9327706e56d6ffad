
/*
 * The numbers of ngx_webtorch_api.h.  Between the two "cdef" marks the text is
 * also cffi's cdef: no preprocessor but plain "#define NAME number".
 */


#ifndef _NGX_WEBTORCH_API_NUMBERS_H_INCLUDED_
#define _NGX_WEBTORCH_API_NUMBERS_H_INCLUDED_


/* cdef: begin */

#define WEBTORCH_MAX_DIMS     8
#define WEBTORCH_MAX_TENSORS  32
#define WEBTORCH_MAX_BUFFERS  64          /* inputs and their masks */
#define WEBTORCH_MAX_AXES     8
#define WEBTORCH_NAME_LEN     64
#define WEBTORCH_MAX_VARS     32
#define WEBTORCH_MAX_CAPTURES 16

/* in place of the length of a variable */
#define WEBTORCH_NOT_SET      0xffffffff

#define WEBTORCH_BOOL         0
#define WEBTORCH_UINT8        1
#define WEBTORCH_UINT16       2
#define WEBTORCH_UINT32       3
#define WEBTORCH_UINT64       4
#define WEBTORCH_INT8         5
#define WEBTORCH_INT16        6
#define WEBTORCH_INT32        7
#define WEBTORCH_INT64        8
#define WEBTORCH_FLOAT16      9
#define WEBTORCH_BFLOAT16     10
#define WEBTORCH_FLOAT32      11
#define WEBTORCH_FLOAT64      12
#define WEBTORCH_STR          13          /* UTF-8 */
#define WEBTORCH_BYTES        14

#define WEBTORCH_INFER        0
#define WEBTORCH_TRAIN        1
#define WEBTORCH_HANDLER      2
#define WEBTORCH_POLICY       3
#define WEBTORCH_STREAM       4

/* flags of a stream: which parts it has beside its function */
#define WEBTORCH_STREAM_OPEN  1
#define WEBTORCH_STREAM_CLOSE 2
#define WEBTORCH_STREAM_DONE  4
#define WEBTORCH_STREAM_ITEMS 8           /* a function of requests yields */
#define WEBTORCH_STREAM_GENERATE 16       /* there are no chunks */

/* of a stream: its states are inputs and outputs, C sets it before Python
   describes the handler */
#define WEBTORCH_STREAM_RESUME 32

/* state of a balancer's server */
#define WEBTORCH_PEER_UP      0
#define WEBTORCH_PEER_EJECTED 1           /* it has failed */
#define WEBTORCH_PEER_OUT     2           /* ejected by an operator */
#define WEBTORCH_PEER_DOWN    3           /* "down" in the configuration */

#define WEBTORCH_GET          1
#define WEBTORCH_HEAD         2
#define WEBTORCH_POST         4
#define WEBTORCH_PUT          8
#define WEBTORCH_DELETE       16
#define WEBTORCH_PATCH        32
#define WEBTORCH_OPTIONS      64

/* flags of an input: it may be absent, its elements may be missing */
#define WEBTORCH_OPTIONAL     1
#define WEBTORCH_MISSING      2

/* flag of an input: rows without it have its default */
#define WEBTORCH_DEFAULT      4

/* bytes of a default */
#define WEBTORCH_DEFAULT_LEN  256

/* the index in sizes[] of the bits of absent optional inputs */
#define WEBTORCH_ABSENT       8

/* the index in sizes[] of the number of the versions that the calls use */
#define WEBTORCH_VERSION_SET  9
#define WEBTORCH_NSIZES       10

/* a model or a function, "@", a version and a zero byte */
#define WEBTORCH_VERSION_SET_LEN  256

/* a device, as cuda:1, and a zero byte */
#define WEBTORCH_DEVICE_LEN   16

/* outputs of more bytes than this may be sent from where they are */
#define WEBTORCH_COPY_SIZE    4096

/* flags of a slot's number */

/* no other slot is in use, they can be freed */
#define WEBTORCH_ONLY_SLOT    0x80000000

/* the slot is not used again, its memory is freed after the batch */
#define WEBTORCH_DROP_SLOT    0x40000000

/* a balancer's features of a server and a request, and its hidden neurons */
#define WEBTORCH_FEATURES     8
#define WEBTORCH_HIDDEN       8

/* a model's name and a zero byte */
#define WEBTORCH_MODEL_LEN    128

/* a block in the zone: the latest; the latest or a new one; a new one */
#define WEBTORCH_FIND         0
#define WEBTORCH_FIND_OR_MAKE 1
#define WEBTORCH_MAKE         2

/* no block: the check of handlers has memory of its own */
#define WEBTORCH_NO_BLOCK     0xffffffff

/*
 * what a block has: the tensors of a model, the state of an optimizer, what
 * rounds with other hosts need; 2 and 3 are those of C alone
 */
#define WEBTORCH_TENSORS      0
#define WEBTORCH_OPTIMIZER    1
#define WEBTORCH_ROUNDS       4

/* compression of differences, guest mode, outer optimizer of a cluster */
#define WEBTORCH_COMPRESS_NONE  0
#define WEBTORCH_COMPRESS_BF16  1
#define WEBTORCH_COMPRESS_INT8  2

#define WEBTORCH_GUEST_AUTO     0
#define WEBTORCH_GUEST_ALWAYS   1
#define WEBTORCH_GUEST_OFF      2

#define WEBTORCH_OUTER_AVERAGE  0
#define WEBTORCH_OUTER_NESTEROV 1

/* secrets of a cluster at a time */
#define WEBTORCH_MAX_SECRETS  2

/* CR LF "--" and a boundary of 70 characters */
#define WEBTORCH_BOUNDARY_LEN 74

/* bytes of an error's message */
#define WEBTORCH_MESSAGE_LEN  512

/* parts that a form may have */
#define WEBTORCH_MAX_PARTS    1000

/*
 * How a text of a form is written: as it is; with escapes of quoted strings;
 * percent-encoded UTF-8 or ISO-8859-1
 */
#define WEBTORCH_PLAIN        0
#define WEBTORCH_QUOTED       1
#define WEBTORCH_PERCENT_UTF8 2
#define WEBTORCH_PERCENT_LATIN1 3

/* in place of steps: as many as the block that is replaced has */
#define WEBTORCH_SAME_STEPS   0xffffffffffffffff

/* in place of the number of a caller */
#define WEBTORCH_OFFLOADED    0xffffffffffffffff

/* types of metrics, see metrics/ */
#define WEBTORCH_METRIC_COUNTER    0
#define WEBTORCH_METRIC_HISTOGRAM  1
#define WEBTORCH_METRIC_SUM        2
#define WEBTORCH_METRIC_MAX        3
#define WEBTORCH_METRIC_MIN        4
#define WEBTORCH_METRIC_MEAN       5
#define WEBTORCH_METRIC_MODEL      6
#define WEBTORCH_METRIC_STAGE      7

/* what Python does for a batch beside the call: its requests are traced, the
   models of its function are written to logs, some of its requests are sampled */
#define WEBTORCH_WATCH_TRACE  1
#define WEBTORCH_WATCH_MODELS 2
#define WEBTORCH_WATCH_SPANS  4

/* bytes of what logs have of a function's models */
#define WEBTORCH_WATCH_LEN    64

/* nginx's own levels */
#define WEBTORCH_LOG_ERROR    4
#define WEBTORCH_LOG_WARN     5
#define WEBTORCH_LOG_NOTICE   6
#define WEBTORCH_LOG_INFO     7
#define WEBTORCH_LOG_DEBUG    8

/* cdef: end */


#endif /* _NGX_WEBTORCH_API_NUMBERS_H_INCLUDED_ */
