# SPDX-License-Identifier: Apache-2.0
# The block design of any board.
# In: the dict DESIGN that overlay/tcl_data.py writes.  Out: a validated, saved block design.
# All differences between boards and families are in the data.

# The IP as the design names it, or the newest version in this Vivado.
proc installed_ip {vlnv} {
    if {[llength [get_ipdefs -quiet -all $vlnv]]} {
        return $vlnv
    }
    set name [join [lrange [split $vlnv :] 0 2] :]
    set others [lsort -dictionary [get_ipdefs -quiet -all $name:*]]
    if {![llength $others]} {
        error "IP $name is not in the catalogue: Xilinx's IPs come with Vivado, those of\
            neuralmatrix with the HLS step ('make overlay' runs it first)"
    }
    if {[string match neuralmatrix:* $vlnv]} {
        error "IP $vlnv is not in the catalogue, found $others: delete the work folder and build\
            again"
    }
    return [lindex $others end]
}

proc with_prefix {config} {
    set pairs {}
    foreach {name value} $config { lappend pairs CONFIG.$name $value }
    return $pairs
}

# The board's preset comes first, since it would undo earlier settings.
proc add_processing_system {design} {
    set ps [dict get $design ps]
    set cell [create_bd_cell -type ip -vlnv [installed_ip [dict get $ps vlnv]] [dict get $ps cell]]
    apply_bd_automation -rule [dict get $ps rule] -config [dict get $ps automation] $cell
    set_property -dict [with_prefix [dict get $ps config]] $cell
    check_clock $cell [dict get $design clock]
}

# The PS takes the nearest dividers, even faster ones; and pynq sets only the dividers, so the
# preset's PLL must be the one in the board file.
proc check_clock {cell clock} {
    dict with clock {
        set made [get_property CONFIG.$actual $cell]
        set first [get_property CONFIG.[lindex $divisors 0] $cell]
        set second [get_property CONFIG.[lindex $divisors 1] $cell]
        if {abs($made / double($mhz) - 1) > 0.001} {
            error "the PS makes $made MHz of the $mhz MHz of the board file: give clock_mhz a value\
                that the PLL's dividers reach"
        }
        set pll [expr {$made * $first * $second}]
        if {abs($pll / double($pll_mhz) - 1) > 0.001} {
            error "the board preset's PLL runs at [format %.3f $pll] MHz, the board file says\
                $pll_mhz MHz: correct pll_mhz, or use the preset of the boot image"
        }
    }
}

proc add_cells {design} {
    foreach entry [dict get $design cells] {
        lassign $entry name vlnv config
        set cell [create_bd_cell -type ip -vlnv [installed_ip $vlnv] $name]
        if {[llength $config]} {
            set_property -dict [with_prefix $config] $cell
        }
    }
}

proc connect {design} {
    foreach pair [dict get $design interfaces] {
        lassign $pair master slave
        connect_bd_intf_net [get_bd_intf_pins $master] [get_bd_intf_pins $slave]
    }
    foreach net [dict get $design nets] {
        set pins {}
        foreach pin $net { lappend pins [get_bd_pins $pin] }
        connect_bd_net {*}$pins
    }
}

proc map_registers {design} {
    set space [get_bd_addr_spaces [dict get $design space]]
    foreach entry [dict get $design segments] {
        lassign $entry segment offset range
        assign_bd_address -target_address_space $space -offset $offset -range $range \
            [get_bd_addr_segs $segment]
    }
}

# Kernels reach DRAM and nothing else.
proc map_dram {design} {
    foreach window [dict get $design dram] {
        lassign $window space segments others
        set target [get_bd_addr_spaces $space]
        foreach name $segments {
            set segment [get_bd_addr_segs -quiet $name]
            if {![llength $segment]} {
                error "$name is not offered by the PS: the board preset maps less DRAM than the\
                    board file's dram.mbytes"
            }
            assign_bd_address -target_address_space $target $segment
        }
        foreach name $others {
            set segment [get_bd_addr_segs -quiet $name]
            if {[llength $segment]} {
                exclude_bd_addr_seg -target_address_space $target $segment
            }
        }
    }
}

proc build_design {design} {
    create_bd_design [dict get $design name]
    add_processing_system $design
    add_cells $design
    connect $design
    map_registers $design
    map_dram $design
    validate_bd_design
    save_bd_design
}
