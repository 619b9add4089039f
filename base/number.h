/* number.h - doubles as Go prints them.
 *
 * What        The shortest decimal that reads back as the same double, in the two layouts that
 *             etcd's outputs use.
 * Callers     log (fields), metrics (exposition).   Thread  any.
 * Source      Go's strconv.FormatFloat with precision -1.
 */
#ifndef BASE_NUMBER_H
#define BASE_NUMBER_H

#include <stddef.h>

#define NUMBER_G_BYTES 32u  /* enough for number_format_g */
#define NUMBER_F_BYTES 384u /* enough for number_format_f: 1e308 has 309 digits, 5e-324 has 326 */

/* Format 'g': with an exponent below 0.0001 and from 1e+06 on, as Prometheus' Go client writes
 * samples: 0.0001, 1e-05, 123456, 1e+06, 1.234567e+06. NaN, +Inf and -Inf by name. */
void number_format_g(double v, char out[NUMBER_G_BYTES]);

/* Format 'f': never an exponent. NaN, +Inf and -Inf by name. */
void number_format_f(double v, char out[NUMBER_F_BYTES]);

#endif
