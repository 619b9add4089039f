/* h1.c - HTTP/1.x requests over libhttp-parser. */
#include "api/http/conn.h"

void h1_start(struct conn *c)
{
    conn_kill(c);
}
void h1_stop(struct conn *c)
{
    (void)c;
}
void h1_input(struct conn *c, struct slice in)
{
    (void)c;
    (void)in;
}
bool h1_gather(struct conn *c, struct bytes *out)
{
    (void)c;
    (void)out;
    return false;
}
void h1_drain(struct conn *c)
{
    (void)c;
}
void h1_timer(struct conn *c)
{
    (void)c;
}
