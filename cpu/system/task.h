// Task switches (SDM chapter 9): by JMP, CALL, IRET, and through a task gate of the IDT.
#ifndef CPU_TASK_H
#define CPU_TASK_H

#include "cpu/system/system.h"

// As the exit qualification has them (SDM table 30-6).
enum task_source { TASK_BY_CALL, TASK_BY_IRET, TASK_BY_JMP, TASK_BY_IDT };

// To the task of the TSS whose descriptor `sel` names. JMP and CALL have checked their access rights to the
// gate, or to the TSS; `e` is the event that leads through the IDT, else NULL. Returns in the new task; RIP
// is in d.npc for an instruction, in s.rip for an event. In VMX non-root operation it exits.
RAISES void task_switch(struct vcpu *v, u16 sel, enum task_source source, const struct event *e);
// IRET with NT: to the task that the link of the present TSS names.
RAISES void task_return(struct vcpu *v);

#endif
