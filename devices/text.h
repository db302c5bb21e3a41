// Numbers, sizes and switches as a user writes them.
#ifndef DEVICES_TEXT_H
#define DEVICES_TEXT_H

#include "mmu/types.h"

bool text_number(const char *s, u64 *x); // decimal, 0x hexadecimal, 0 octal; no sign, nothing behind it
// "512" (units of 2^unit bytes), "0x200", "512M", "1.5G". False: no size. Too large for 64 bits: UINT64_MAX.
bool text_size(const char *s, unsigned unit, u64 *bytes);
bool text_switch(const char *s, bool *on); // on, yes, true, y; off, no, false, n

#endif
