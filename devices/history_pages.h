// What each page of RAM held at the checkpoints of a history: between history.c and its pages.
//
// A checkpoint is known here by where its number is: numbers ascend, and may become others, in the same
// order.
#ifndef DEVICES_HISTORY_PAGES_H
#define DEVICES_HISTORY_PAGES_H

#include "devices/history.h"

// No page has a version then. False: the host has no memory.
bool history_pages_begin(struct history *h);
void history_pages_end(struct history *h);
u64 history_pages_words(const struct history *h); // of a bitmap, a bit a page
u64 *history_pages_written(struct history *h);    // the bitmap of those written since `base`; NULL: no memory

// Page n, which may have been written, at checkpoint *of; *added: it has a version of it now. False: the host
// has no memory.
bool history_page_add(struct history *h, u64 n, const u64 *of, bool *added);
// Its newest version, which has been given up.
void history_page_forget(struct history *h, u64 n);
// Checkpoint *of is given up, and *next is the one behind it: whether its version is *next's now, which had
// none.
bool history_page_hand_on(struct history *h, u64 n, const u64 *of, const u64 *next);
// RAM is as it was at the checkpoint of this number.
void history_page_put_back(struct history *h, u64 n, u64 number);

#endif
