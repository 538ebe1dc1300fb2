; The lab's guest: one boot sector that behaves as a well-mannered machine.
;
;   * It answers the power button (virsh shutdown, virsh reboot).
;   * About four times a second it writes sector 1 of its own disk, so that the
;     disk itself tells who wrote last, how often, and since which boot.
;
; The record in sector 1, little-endian, the rest of the sector zero:
;
;   offset  0   4 bytes  'HVRT'
;           4   8 bytes  nonce, taken once at boot; another boot, another nonce
;          12   4 bytes  counter: 1 at the first write, one more with each
;
; Everything the loop needs lies in the guest's memory, and nothing in the host,
; so a live migration may catch it between any two instructions.
;
;   nasm -f bin -o guest.img guest.asm

        bits    16
        org     0x7c00

; ACPI registers of QEMU's machine 'pc', where SeaBIOS places them.
PM_STATUS       equ     0x600
PM_ENABLE       equ     0x602
PM_CONTROL      equ     0x604
POWER_BUTTON    equ     0x0100          ; the same bit in status and enable
SOFT_OFF        equ     0x2000          ; SLP_EN with sleep type 0, which is S5

BIOS_TICKS      equ     0x46c           ; 32 bits, 18.2 a second
TICKS_A_WRITE   equ     4

record          equ     0x7e00          ; one sector, just behind this one
nonce           equ     record + 4
counter         equ     record + 12

start:
        jmp     0:.flat                 ; some firmware starts at 07c0:0000
.flat:
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7c00
        mov     [drive], dl
        cld
        sti

        mov     di, record
        mov     cx, 256
        rep     stosw
        mov     dword [record], 'HVRT'
        call    take_nonce

        mov     si, greeting
        call    print

        ; A status bit left over from before a reset must not count as a press.
        mov     dx, PM_STATUS
        mov     ax, POWER_BUTTON
        out     dx, ax
        mov     dx, PM_ENABLE
        out     dx, ax

; The timer interrupt ends each hlt, so the loop turns 18 times a second.
main:
        mov     dx, PM_STATUS
        in      ax, dx
        test    ax, POWER_BUTTON
        jnz     power_off

        mov     eax, [BIOS_TICKS]
        sub     eax, [last_write]
        cmp     eax, TICKS_A_WRITE      ; unsigned: midnight's wrap writes early
        jb      .rest
        call    write_record
.rest:
        hlt
        jmp     main

power_off:
        mov     dx, PM_STATUS
        mov     ax, POWER_BUTTON
        out     dx, ax                  ; writing a one clears it
        mov     dx, PM_CONTROL
        mov     ax, SOFT_OFF
        out     dx, ax
        hlt
        jmp     main                    ; only if nobody took the request

; The time stamp counter alone starts near zero with each QEMU: the clock's
; seconds, minutes, hours and day keep two boots apart even so.
take_nonce:
        rdtsc
        mov     [nonce], eax
        mov     [nonce + 4], edx
        xor     bx, bx
.next:
        mov     al, [clock_registers + bx]
        out     0x70, al
        in      al, 0x71
        xor     [nonce + 4 + bx], al
        inc     bx
        cmp     bx, 4
        jb      .next
        ret

; A failed write is not counted and not repeated: the next turn comes anyway,
; and the button must be answered even when the disk is gone.
write_record:
        mov     eax, [BIOS_TICKS]
        mov     [last_write], eax
        inc     dword [counter]
        mov     si, packet
        mov     dl, [drive]
        mov     ax, 0x4300              ; extended write, no verify
        int     0x13
        jnc     .done
        dec     dword [counter]
.done:
        ret

print:
        lodsb
        test    al, al
        jz      .done
        mov     ah, 0x0e
        xor     bx, bx
        int     0x10
        jmp     print
.done:
        ret

greeting        db      'havirt lab guest', 13, 10, 0
clock_registers db      0, 2, 4, 7      ; seconds, minutes, hours, day of month
drive           db      0
last_write      dd      0

        align   4
packet: db      16, 0                   ; disk address packet of int 13h
        dw      1                       ; sectors
        dw      record, 0               ; offset, segment
        dq      1                       ; LBA

        times   510 - ($ - $$) db 0
        dw      0xaa55
