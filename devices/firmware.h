// What firmware would have left behind when an operating system starts.
#ifndef DEVICES_FIRMWARE_H
#define DEVICES_FIRMWARE_H

#include "devices/machine.h"

void firmware_leave(struct machine *m); // after a reset of all devices and processors

#endif
