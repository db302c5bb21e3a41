// An event of the stream as one line of text: "KIND cpu=N retired=N rip=... key=value ...", and below it,
// indented, the rules that a failed VM entry or VMX instruction broke.
#ifndef FRONTEND_EVENT_TEXT_H
#define FRONTEND_EVENT_TEXT_H

#include <stdio.h>

#include "cpu/state/trace.h"
#include "frontend/symbols.h"

#define EVENT_NO_TIME UINT64_MAX

// `ns`: virtual time, as t=NS; EVENT_NO_TIME: not told.
void event_text(FILE *f, const struct trace_event *e, u64 ns, const struct symbols *symbols);
const char *event_kind_name(enum trace_kind k); // "vmexit"
const char *event_vector_name(unsigned vector); // "#PF"; "?" if it has none
// "name+0x12" of an event's RIP, and true; or the empty text.
bool event_symbol(const struct trace_event *e, const struct symbols *symbols, char *text, size_t size);

#endif
