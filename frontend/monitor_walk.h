// A translation in words: each entry that the walk reads, of both stages, and what comes of it.
#ifndef FRONTEND_MONITOR_WALK_H
#define FRONTEND_MONITOR_WALK_H

#include "frontend/monitor.h"

void monitor_walk(struct monitor *c, u64 at, u32 acc); // acc: ACC_*

#endif
