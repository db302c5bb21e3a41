// What stands between the generator of roms/fuzz, which speaks as a guest does, and the library that it
// drives: plain numbers, because the two sides' names are the same and mean other things.
#ifndef ENTRIES_MACHINE_H
#define ENTRIES_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

// Pages of the machine that this program has at the same address: a pointer is a physical address.
#define SHARED_AT   0x4000000ul
#define SHARED_SIZE 0x2400000ul

bool machine_open(bool loop); // false: the host does not give the memory, or not there
void machine_close(void);
void machine_forget_code(uint64_t at, uint64_t size); // this program has written there
void machine_new_case(
    void); // in VMX operation, with the VMCS clear and current; nothing kept of the case before
bool machine_vmread(uint32_t encoding, uint64_t *value);
bool machine_vmwrite(uint32_t encoding, uint64_t value);
uint64_t machine_rdmsr(uint32_t msr);
void machine_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
void machine_registers(const uint64_t cr2_dr[6]); // CR2, DR0-DR3, DR6
uint64_t machine_control_register(unsigned n);
void machine_interrupt(uint8_t vector); // of an external interrupt that waits from now on
void machine_invept(void);
// VMLAUNCH or VMRESUME, to the exit. 0; 1 VMfailInvalid; 2 VMfailValid; 3: it ended otherwise (VMX abort, a
// guest that nothing ends), and the next case begins anew.
int machine_enter(bool launched, uint64_t gpr[16]);
struct machine_counts {
    uint64_t entries, failures, aborts, endless, notifications; // of posted interrupts, processed
};
struct machine_counts machine_counts(void);

#endif
