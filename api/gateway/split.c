/* split.c - see split.h. */
#include "api/gateway/split.h"

#include "base/assert.h"

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* True: the value ends with this byte. */
static bool step(struct gjson_split *s, uint8_t c)
{
    if (s->string) {
        bool ends = c == '"' && !s->escape;
        s->escape = c == '\\' && !s->escape;
        s->string = !ends;
        return false;
    }
    if (c == '"') {
        s->string = true;
    } else if (c == '{' || c == '[') {
        s->depth++;
    } else if (c == '}' || c == ']') {
        s->depth--;
        return s->depth == 0;
    }
    return false;
}

size_t gjson_split(struct gjson_split *s, struct slice text)
{
    ASSERT(s->seen <= text.len);
    while (s->seen < text.len) {
        uint8_t c = text.data[s->seen];
        if (s->depth == 0 && c != '{' && !is_space(c)) {
            *s = (struct gjson_split){0};
            return text.len;
        }
        s->seen++;
        if (!is_space(c) && step(s, c)) {
            size_t n = s->seen;
            *s = (struct gjson_split){0};
            return n;
        }
    }
    return 0;
}
