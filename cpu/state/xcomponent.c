#include "cpu/state/xcomponent.h"
#include "cpu/system/cpuid.h"

#define XCOMPONENT(number, name, feature, offset, bytes, supervisor, aligned) \
    {number, FEATURE_##feature, offset, bytes, supervisor, aligned},
const struct xcomponent xcomponents[] = {XCOMPONENTS(XCOMPONENT)};
const unsigned xcomponents_n = ARRAY_LEN(xcomponents);

static u64 components(const struct cpu_features *f, bool supervisor)
{
    u64 m = 0;
    for (unsigned i = 0; i < xcomponents_n; i++)
        if (xcomponents[i].supervisor == supervisor && feature_on(f, xcomponents[i].feature))
            m |= BIT(xcomponents[i].number);
    return m;
}

u64 xcomponents_user(const struct cpu_features *f)
{
    return XCOMP_X87 | (feature_on(f, FEATURE_SSE) ? XCOMP_SSE : 0) | components(f, false);
}

u64 xcomponents_supervisor(const struct cpu_features *f) { return components(f, true); }

// Where a component stands, or the area ends (of == NULL), in the compacted format (SDM volume 1, 13.4.3).
static u32 compacted(const struct xcomponent *of, u64 components)
{
    u32 at = XSAVE_LEGACY + XSAVE_HEADER;
    for (unsigned i = 0; i < xcomponents_n; i++) {
        const struct xcomponent *c = &xcomponents[i];
        if (!(components >> c->number & 1)) continue;
        if (c->aligned) at = (at + 63) & ~63u;
        if (c == of) break;
        at += c->bytes;
    }
    return at;
}

u32 xcomponent_offset(const struct xcomponent *c, u64 components)
{
    return components ? compacted(c, components) : c->offset;
}

u32 xcomponents_size(u64 components, bool compact)
{
    if (compact) return compacted(NULL, components);
    u32 end = XSAVE_LEGACY + XSAVE_HEADER;
    for (unsigned i = 0; i < xcomponents_n; i++) {
        const struct xcomponent *c = &xcomponents[i];
        if (components >> c->number & 1 && c->offset + c->bytes > end) end = c->offset + c->bytes;
    }
    return end;
}
