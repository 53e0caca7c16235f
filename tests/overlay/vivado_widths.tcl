# SPDX-License-Identifier: Apache-2.0
# Checks that both ends of a bus or a wire agree, of which Vivado warns at most: widths, polarity of
# resets, and the latency of memories at the ports of HLS.
# In: the cells' parameters, the kernels' C++ signatures.  Out: errors.

namespace eval stub {
    # Bytes of a stream's TDATA, by the type of a kernel's argument; HLS rounds up to whole bytes.
    variable stream_bytes {Insn 64 Token 1}
    variable clock_bits 64
}

proc stub::config_of {cell name} {
    variable cells
    set config [dict get $cells $cell config]
    return [expr {[dict exists $config $name] ? [dict get $config $name] : ""}]
}

proc stub::is_kernel {cell} {
    variable cells
    return [string match neuralmatrix:hls:* [dict get $cells $cell ip]]
}

proc stub::bytes_of {cell pin} {
    variable cells
    variable stream_bytes
    if {![is_kernel $cell]} { return [config_of $cell TDATA_NUM_BYTES] }
    set file [open [file join $::HLS_SOURCES [lindex [split [dict get $cells $cell ip] :] end].cpp]]
    set text [read $file]
    close $file
    if {![regexp "nm::(\\w+)Queue& $pin\\M" $text - type]} { error "$cell/$pin is no queue" }
    return [dict get $stream_bytes $type]
}

proc stub::check_stream {one two} {
    set widths [lmap path [list $one $two] { bytes_of {*}[split $path /] }]
    if {[lindex $widths 0] != [lindex $widths 1]} {
        error "$one is [lindex $widths 0] bytes wide, $two [lindex $widths 1]"
    }
}

# HLS uses byte addresses, writes single bytes, and reads data one cycle after the address.
proc stub::check_memory {cell} {
    set wanted {
        Memory_Type True_Dual_Port_RAM use_bram_block Stand_Alone Enable_32bit_Address true
        Use_Byte_Write_Enable true Byte_Size 8 EN_SAFETY_CKT false Assume_Synchronous_Clk true
        Enable_A Use_ENA_Pin Enable_B Use_ENB_Pin
        Register_PortA_Output_of_Memory_Primitives false
        Register_PortB_Output_of_Memory_Primitives false
    }
    dict for {name value} $wanted {
        if {[config_of $cell $name] ne $value} {
            error "$cell: kernels need $name $value, found \"[config_of $cell $name]\""
        }
    }
    set widths [lmap name {Write_Width_A Read_Width_A Write_Width_B Read_Width_B} {
        config_of $cell $name
    }]
    if {[llength [lsort -unique $widths]] != 1} { error "$cell: its widths differ: $widths" }
    if {[config_of $cell Write_Depth_A] < 2} { error "$cell: Write_Depth_A is too small" }
    if {[config_of $cell READ_LATENCY_A] ni {"" 1} || [config_of $cell READ_LATENCY_B] ni {"" 1}} {
        error "$cell: kernels take data after one cycle"
    }
}

proc stub::check_buses {kind one two} {
    if {$kind eq "axis"} { check_stream $one $two }
    if {$kind eq "bram"} {
        foreach path [list $one $two] {
            set cell [lindex [split $path /] 0]
            if {![is_kernel $cell]} { check_memory $cell }
        }
    }
}

# resetn, rst_n and RESET0_N are low when active.
proc stub::is_low_active {path} {
    return [regexp -nocase {(resetn\d?|rst_n|reset\d_n|aresetn)$} $path]
}

proc stub::check_wire {driver sink} {
    variable clock_bits
    set name [lindex [split $sink /] 1]
    if {[regexp -nocase {(reset|rst)} $name] && $name ne "ext_reset_in"
        && [is_low_active $name] != [is_low_active $driver]} {
        error "$driver resets with the other level than $sink expects"
    }
    set bits [config_of [lindex [split $driver /] 0] Output_Width]
    if {$bits ne "" && $bits != $clock_bits} {
        error "$driver is $bits bits wide, $sink $clock_bits"
    }
}
