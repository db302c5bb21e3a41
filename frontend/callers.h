// Who called what runs: the functions on a stack, by symbols alone.
//
// No frame pointers or tables are asked of the program. A caller is looked for upwards on the stack: the
// first word that is behind a CALL of the very function that runs, or of one that ends in a jump to it (which
// is told, too, though its frame is gone); else, near by, one behind an indirect CALL.
#ifndef FRONTEND_CALLERS_H
#define FRONTEND_CALLERS_H

#include "frontend/symbols.h"
#include "frontend/view.h"

// The function at the view's RIP, then its callers; how many, 0 if RIP has no symbol.
unsigned callers_find(const struct symbols *symbols, struct symbols_of of, const struct view *w,
                      const struct symbol **stack, unsigned max);

#endif
