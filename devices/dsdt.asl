// The board as ACPI's interpreter in the guest sees it: PCI root, ISA devices, interrupt links, power-off.
// Compiled by iasl when the project is built. Processors and interrupt controllers are in the MADT (acpi_tables.c).
DefinitionBlock ("dsdt.aml", "DSDT", 1, "MTRYSH", "MATRYOSH", 0x00000001)
{
    // Soft off: SLP_TYP 0 in PM1 control (acpi_pm.c).
    Name (\_S5, Package (4) { 0x00, 0x00, 0x00, 0x00 })

    // 0: 8259 pair, 1: I/O APIC. Either way the interrupt numbers are the same on this board.
    Name (\PICM, 0)
    Method (\_PIC, 1) { \PICM = Arg0 }

    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0x0000, 0x00FF, 0, 0x0100)
                IO (Decode16, 0x0CF8, 0x0CF8, 0x01, 0x08)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0x0000, 0x0CF7, 0, 0x0CF8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0x0D00, 0xFFFF, 0, 0xF300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                             0, 0x000A0000, 0x000BFFFF, 0, 0x00020000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                             0, 0xC0000000, 0xFEBFFFFF, 0, 0x3EC00000)
            })

            // Slot s, pin p (0 = INTA) is wired to PIRQ (s - 1 + p) mod 4, but for the power management function.
            Name (_PRT, Package ()
            {
                Package (4) { 0x0001FFFF, 0, LNKS, 0 }, Package (4) { 0x0001FFFF, 1, LNKB, 0 },
                Package (4) { 0x0001FFFF, 2, LNKC, 0 }, Package (4) { 0x0001FFFF, 3, LNKD, 0 },
                Package (4) { 0x0002FFFF, 0, LNKB, 0 }, Package (4) { 0x0002FFFF, 1, LNKC, 0 },
                Package (4) { 0x0002FFFF, 2, LNKD, 0 }, Package (4) { 0x0002FFFF, 3, LNKA, 0 },
                Package (4) { 0x0003FFFF, 0, LNKC, 0 }, Package (4) { 0x0003FFFF, 1, LNKD, 0 },
                Package (4) { 0x0003FFFF, 2, LNKA, 0 }, Package (4) { 0x0003FFFF, 3, LNKB, 0 },
                Package (4) { 0x0004FFFF, 0, LNKD, 0 }, Package (4) { 0x0004FFFF, 1, LNKA, 0 },
                Package (4) { 0x0004FFFF, 2, LNKB, 0 }, Package (4) { 0x0004FFFF, 3, LNKC, 0 },
                Package (4) { 0x0005FFFF, 0, LNKA, 0 }, Package (4) { 0x0005FFFF, 1, LNKB, 0 },
                Package (4) { 0x0005FFFF, 2, LNKC, 0 }, Package (4) { 0x0005FFFF, 3, LNKD, 0 },
                Package (4) { 0x0006FFFF, 0, LNKB, 0 }, Package (4) { 0x0006FFFF, 1, LNKC, 0 },
                Package (4) { 0x0006FFFF, 2, LNKD, 0 }, Package (4) { 0x0006FFFF, 3, LNKA, 0 },
                Package (4) { 0x0007FFFF, 0, LNKC, 0 }, Package (4) { 0x0007FFFF, 1, LNKD, 0 },
                Package (4) { 0x0007FFFF, 2, LNKA, 0 }, Package (4) { 0x0007FFFF, 3, LNKB, 0 },
                Package (4) { 0x0008FFFF, 0, LNKD, 0 }, Package (4) { 0x0008FFFF, 1, LNKA, 0 },
                Package (4) { 0x0008FFFF, 2, LNKB, 0 }, Package (4) { 0x0008FFFF, 3, LNKC, 0 },
                Package (4) { 0x0009FFFF, 0, LNKA, 0 }, Package (4) { 0x0009FFFF, 1, LNKB, 0 },
                Package (4) { 0x0009FFFF, 2, LNKC, 0 }, Package (4) { 0x0009FFFF, 3, LNKD, 0 },
                Package (4) { 0x000AFFFF, 0, LNKB, 0 }, Package (4) { 0x000AFFFF, 1, LNKC, 0 },
                Package (4) { 0x000AFFFF, 2, LNKD, 0 }, Package (4) { 0x000AFFFF, 3, LNKA, 0 },
                Package (4) { 0x000BFFFF, 0, LNKC, 0 }, Package (4) { 0x000BFFFF, 1, LNKD, 0 },
                Package (4) { 0x000BFFFF, 2, LNKA, 0 }, Package (4) { 0x000BFFFF, 3, LNKB, 0 },
                Package (4) { 0x000CFFFF, 0, LNKD, 0 }, Package (4) { 0x000CFFFF, 1, LNKA, 0 },
                Package (4) { 0x000CFFFF, 2, LNKB, 0 }, Package (4) { 0x000CFFFF, 3, LNKC, 0 },
                Package (4) { 0x000DFFFF, 0, LNKA, 0 }, Package (4) { 0x000DFFFF, 1, LNKB, 0 },
                Package (4) { 0x000DFFFF, 2, LNKC, 0 }, Package (4) { 0x000DFFFF, 3, LNKD, 0 },
                Package (4) { 0x000EFFFF, 0, LNKB, 0 }, Package (4) { 0x000EFFFF, 1, LNKC, 0 },
                Package (4) { 0x000EFFFF, 2, LNKD, 0 }, Package (4) { 0x000EFFFF, 3, LNKA, 0 },
                Package (4) { 0x000FFFFF, 0, LNKC, 0 }, Package (4) { 0x000FFFFF, 1, LNKD, 0 },
                Package (4) { 0x000FFFFF, 2, LNKA, 0 }, Package (4) { 0x000FFFFF, 3, LNKB, 0 },
                Package (4) { 0x0010FFFF, 0, LNKD, 0 }, Package (4) { 0x0010FFFF, 1, LNKA, 0 },
                Package (4) { 0x0010FFFF, 2, LNKB, 0 }, Package (4) { 0x0010FFFF, 3, LNKC, 0 },
                Package (4) { 0x0011FFFF, 0, LNKA, 0 }, Package (4) { 0x0011FFFF, 1, LNKB, 0 },
                Package (4) { 0x0011FFFF, 2, LNKC, 0 }, Package (4) { 0x0011FFFF, 3, LNKD, 0 },
                Package (4) { 0x0012FFFF, 0, LNKB, 0 }, Package (4) { 0x0012FFFF, 1, LNKC, 0 },
                Package (4) { 0x0012FFFF, 2, LNKD, 0 }, Package (4) { 0x0012FFFF, 3, LNKA, 0 },
                Package (4) { 0x0013FFFF, 0, LNKC, 0 }, Package (4) { 0x0013FFFF, 1, LNKD, 0 },
                Package (4) { 0x0013FFFF, 2, LNKA, 0 }, Package (4) { 0x0013FFFF, 3, LNKB, 0 },
                Package (4) { 0x0014FFFF, 0, LNKD, 0 }, Package (4) { 0x0014FFFF, 1, LNKA, 0 },
                Package (4) { 0x0014FFFF, 2, LNKB, 0 }, Package (4) { 0x0014FFFF, 3, LNKC, 0 },
                Package (4) { 0x0015FFFF, 0, LNKA, 0 }, Package (4) { 0x0015FFFF, 1, LNKB, 0 },
                Package (4) { 0x0015FFFF, 2, LNKC, 0 }, Package (4) { 0x0015FFFF, 3, LNKD, 0 },
                Package (4) { 0x0016FFFF, 0, LNKB, 0 }, Package (4) { 0x0016FFFF, 1, LNKC, 0 },
                Package (4) { 0x0016FFFF, 2, LNKD, 0 }, Package (4) { 0x0016FFFF, 3, LNKA, 0 },
                Package (4) { 0x0017FFFF, 0, LNKC, 0 }, Package (4) { 0x0017FFFF, 1, LNKD, 0 },
                Package (4) { 0x0017FFFF, 2, LNKA, 0 }, Package (4) { 0x0017FFFF, 3, LNKB, 0 },
                Package (4) { 0x0018FFFF, 0, LNKD, 0 }, Package (4) { 0x0018FFFF, 1, LNKA, 0 },
                Package (4) { 0x0018FFFF, 2, LNKB, 0 }, Package (4) { 0x0018FFFF, 3, LNKC, 0 },
                Package (4) { 0x0019FFFF, 0, LNKA, 0 }, Package (4) { 0x0019FFFF, 1, LNKB, 0 },
                Package (4) { 0x0019FFFF, 2, LNKC, 0 }, Package (4) { 0x0019FFFF, 3, LNKD, 0 },
                Package (4) { 0x001AFFFF, 0, LNKB, 0 }, Package (4) { 0x001AFFFF, 1, LNKC, 0 },
                Package (4) { 0x001AFFFF, 2, LNKD, 0 }, Package (4) { 0x001AFFFF, 3, LNKA, 0 },
                Package (4) { 0x001BFFFF, 0, LNKC, 0 }, Package (4) { 0x001BFFFF, 1, LNKD, 0 },
                Package (4) { 0x001BFFFF, 2, LNKA, 0 }, Package (4) { 0x001BFFFF, 3, LNKB, 0 },
                Package (4) { 0x001CFFFF, 0, LNKD, 0 }, Package (4) { 0x001CFFFF, 1, LNKA, 0 },
                Package (4) { 0x001CFFFF, 2, LNKB, 0 }, Package (4) { 0x001CFFFF, 3, LNKC, 0 },
                Package (4) { 0x001DFFFF, 0, LNKA, 0 }, Package (4) { 0x001DFFFF, 1, LNKB, 0 },
                Package (4) { 0x001DFFFF, 2, LNKC, 0 }, Package (4) { 0x001DFFFF, 3, LNKD, 0 },
                Package (4) { 0x001EFFFF, 0, LNKB, 0 }, Package (4) { 0x001EFFFF, 1, LNKC, 0 },
                Package (4) { 0x001EFFFF, 2, LNKD, 0 }, Package (4) { 0x001EFFFF, 3, LNKA, 0 },
                Package (4) { 0x001FFFFF, 0, LNKC, 0 }, Package (4) { 0x001FFFFF, 1, LNKD, 0 },
                Package (4) { 0x001FFFFF, 2, LNKA, 0 }, Package (4) { 0x001FFFFF, 3, LNKB, 0 }
            })

            Device (ISA)
            {
                Name (_ADR, 0x00010000)
                OperationRegion (PIRQ, PCI_Config, 0x60, 0x04)
                Field (PIRQ, ByteAcc, NoLock, Preserve) { PRQA, 8, PRQB, 8, PRQC, 8, PRQD, 8 }

                Device (RTC)
                {
                    Name (_HID, EisaId ("PNP0B00"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0070, 0x0070, 0x01, 0x02)
                        IRQNoFlags () { 8 }
                    })
                }
                Device (KBD)
                {
                    Name (_HID, EisaId ("PNP0303"))
                    Name (_STA, 0x0F)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0060, 0x0060, 0x01, 0x01)
                        IO (Decode16, 0x0064, 0x0064, 0x01, 0x01)
                        IRQNoFlags () { 1 }
                    })
                }
                Device (MOU)
                {
                    Name (_HID, EisaId ("PNP0F13"))
                    Name (_STA, 0x0F)
                    Name (_CRS, ResourceTemplate () { IRQNoFlags () { 12 } })
                }
                Device (COM1)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 1)
                    Name (_STA, 0x0F)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x03F8, 0x03F8, 0x00, 0x08)
                        IRQNoFlags () { 4 }
                    })
                }
                Device (COM2)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 2)
                    Name (_STA, 0x0F)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x02F8, 0x02F8, 0x00, 0x08)
                        IRQNoFlags () { 3 }
                    })
                }
                Device (PIC)
                {
                    Name (_HID, EisaId ("PNP0000"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0020, 0x0020, 0x01, 0x02)
                        IO (Decode16, 0x00A0, 0x00A0, 0x01, 0x02)
                        IO (Decode16, 0x04D0, 0x04D0, 0x01, 0x02)
                        IRQNoFlags () { 2 }
                    })
                }
                Device (PIT)
                {
                    Name (_HID, EisaId ("PNP0100"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0040, 0x0040, 0x01, 0x04)
                        IRQNoFlags () { 0 }
                    })
                }
                Device (DMAC)
                {
                    Name (_HID, EisaId ("PNP0200"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x0000, 0x0000, 0x01, 0x10)
                        IO (Decode16, 0x0080, 0x0080, 0x01, 0x10)
                        IO (Decode16, 0x00C0, 0x00C0, 0x01, 0x20)
                        DMA (Compatibility, NotBusMaster, Transfer8) { 4 }
                    })
                }
                Device (SPKR)
                {
                    Name (_HID, EisaId ("PNP0800"))
                    Name (_CRS, ResourceTemplate () { IO (Decode16, 0x0061, 0x0061, 0x01, 0x01) })
                }
            }

            // Motherboard ports that belong to no other device.
            Device (MRES)
            {
                Name (_HID, EisaId ("PNP0C02"))
                Name (_CRS, ResourceTemplate ()
                {
                    IO (Decode16, 0x0092, 0x0092, 0x01, 0x01)
                    IO (Decode16, 0x00B2, 0x00B2, 0x01, 0x02)
                    IO (Decode16, 0x0600, 0x0600, 0x01, 0x40)
                    IO (Decode16, 0xAFE0, 0xAFE0, 0x01, 0x04)
                })
            }
        }

        Device (HPET)
        {
            Name (_HID, EisaId ("PNP0103"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadOnly, 0xFED00000, 0x00000400) })
            OperationRegion (REGS, SystemMemory, 0xFED00000, 0x0400)
            Field (REGS, DWordAcc, NoLock, Preserve) { CAPS, 32 }
            Method (_STA) // a board without one reads all ones there
            {
                If (CAPS == 0xFFFFFFFF) { Return (0x00) }
                Return (0x0F)
            }
        }

        Device (FWCF)
        {
            Name (_HID, "QEMU0002")
            Name (_STA, 0x0B)
            Name (_CRS, ResourceTemplate () { IO (Decode16, 0x0510, 0x0510, 0x01, 0x0C) })
        }

        // Interrupt links: a PIRQ's routing register in the ISA bridge, as a resource that can be set.
        Name (PRSX, ResourceTemplate () { Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) { 5, 10, 11 } })

        Method (LSTA, 1) // status: bit 7 of the register disconnects
        {
            If (Arg0 & 0x80) { Return (0x09) }
            Return (0x0B)
        }
        Method (LCRS, 1, Serialized)
        {
            Name (BUF, ResourceTemplate () { Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) { 0 } })
            CreateDWordField (BUF, 0x05, NUMB)
            If (!(Arg0 & 0x80)) { NUMB = Arg0 }
            Return (BUF)
        }

        Device (LNKA)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 0)
            Method (_PRS) { Return (PRSX) }
            Method (_STA) { Return (LSTA (^^PCI0.ISA.PRQA)) }
            Method (_DIS) { ^^PCI0.ISA.PRQA |= 0x80 }
            Method (_CRS) { Return (LCRS (^^PCI0.ISA.PRQA)) }
            Method (_SRS, 1) { CreateDWordField (Arg0, 0x05, NUMB) ^^PCI0.ISA.PRQA = NUMB }
        }
        Device (LNKB)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 1)
            Method (_PRS) { Return (PRSX) }
            Method (_STA) { Return (LSTA (^^PCI0.ISA.PRQB)) }
            Method (_DIS) { ^^PCI0.ISA.PRQB |= 0x80 }
            Method (_CRS) { Return (LCRS (^^PCI0.ISA.PRQB)) }
            Method (_SRS, 1) { CreateDWordField (Arg0, 0x05, NUMB) ^^PCI0.ISA.PRQB = NUMB }
        }
        Device (LNKC)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 2)
            Method (_PRS) { Return (PRSX) }
            Method (_STA) { Return (LSTA (^^PCI0.ISA.PRQC)) }
            Method (_DIS) { ^^PCI0.ISA.PRQC |= 0x80 }
            Method (_CRS) { Return (LCRS (^^PCI0.ISA.PRQC)) }
            Method (_SRS, 1) { CreateDWordField (Arg0, 0x05, NUMB) ^^PCI0.ISA.PRQC = NUMB }
        }
        Device (LNKD)
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 3)
            Method (_PRS) { Return (PRSX) }
            Method (_STA) { Return (LSTA (^^PCI0.ISA.PRQD)) }
            Method (_DIS) { ^^PCI0.ISA.PRQD |= 0x80 }
            Method (_CRS) { Return (LCRS (^^PCI0.ISA.PRQD)) }
            Method (_SRS, 1) { CreateDWordField (Arg0, 0x05, NUMB) ^^PCI0.ISA.PRQD = NUMB }
        }
        Device (LNKS) // the power management function: always the SCI
        {
            Name (_HID, EisaId ("PNP0C0F"))
            Name (_UID, 4)
            Name (_PRS, ResourceTemplate () { Interrupt (ResourceConsumer, Level, ActiveHigh, Shared) { 9 } })
            Method (_STA) { Return (0x0B) }
            Method (_DIS) { }
            Method (_CRS) { Return (_PRS) }
            Method (_SRS, 1) { }
        }
    }
}
