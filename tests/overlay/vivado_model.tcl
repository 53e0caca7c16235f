# SPDX-License-Identifier: Apache-2.0
# The effects of Vivado's commands on a project and a block design, as far as our scripts use them.
# In: parsed calls.  Out: objects as text, "kind=name"; errors where Vivado reports one.

namespace eval stub {
    variable catalogue_read 0
    # MHz of the other PLLs, which no board file uses.
    variable other_pll_mhz 1066.667
}

proc stub::object {kind name} { return $kind=$name }

# The name of an object of that kind; commands of the block design take no bare names here.
proc stub::name_of {kind object} {
    if {![string match $kind=* $object]} { error "expected a $kind, found \"$object\"" }
    return [string range $object [string length $kind=] end]
}

# ------------------------------------------------------------------------------ project

proc stub::do_version {options words} {
    variable settings
    if {[option $options -short] eq "true"} { return $settings(VERSION) }
    return "Vivado v$settings(VERSION) (64-bit)"
}

proc stub::do_create_project {options words} {
    variable project
    lassign $words name folder
    dict set project name $name
    dict set project folder $folder
    file mkdir $folder
    return [object project $name]
}

proc stub::do_current_project {options words} {
    variable project
    return [object project [dict get $project name]]
}

proc stub::do_get_board_parts {options words} {
    variable settings
    set found {}
    foreach wanted $words {
        if {$settings(BOARD_PARTS) eq "*"} { return $wanted }
        foreach part $settings(BOARD_PARTS) {
            if {[string match $wanted $part]} { lappend found $part }
        }
    }
    return $found
}

# Our own IPs are known after the catalogue was read with their folder.
proc stub::do_update_ip_catalog {options words} {
    variable catalogue_read
    variable project
    variable properties
    set here [object project [dict get $project name]]
    set catalogue_read [dict exists [dict_or_empty $properties $here] ip_repo_paths]
}

proc stub::is_in_catalogue {ip} {
    variable settings
    variable catalogue_read
    if {$ip in $settings(MISSING_IPS)} { return 0 }
    return [expr {$catalogue_read || ![string match neuralmatrix:* $ip]}]
}

proc stub::do_get_ipdefs {options words} {
    set found {}
    dict for {ip versions} $catalogue::versions {
        if {![is_in_catalogue $ip]} { continue }
        foreach version $versions {
            foreach pattern $words {
                if {[string match $pattern $ip:$version]} { lappend found $ip:$version }
            }
        }
    }
    return $found
}

# ------------------------------------------------------------------------------ properties

proc stub::do_set_property {options words} {
    if {[dict exists $options -dict]} {
        set pairs [dict get $options -dict]
        set objects $words
    } else {
        set objects [lassign $words name value]
        set pairs [list $name $value]
    }
    if {[llength $pairs] % 2} { error "set_property: names and values do not pair up: $pairs" }
    if {![llength $objects]} { error "set_property: no object" }
    foreach object [concat {*}$objects] {
        foreach {name value} $pairs {
            record set_property {} [list $object $name $value]
            set_one $object $name $value
        }
    }
}

proc stub::set_one {object name value} {
    variable properties
    if {[string match cell=* $object]} {
        configure [name_of cell $object] $name $value
        return
    }
    lassign [split $object =] kind
    set allowed {
        project {board_part ip_repo_paths target_language default_lib}
        run {strategy STEPS.PHYS_OPT_DESIGN.IS_ENABLED STEPS.POST_ROUTE_PHYS_OPT_DESIGN.IS_ENABLED
            STEPS.PLACE_DESIGN.ARGS.DIRECTIVE STEPS.ROUTE_DESIGN.ARGS.DIRECTIVE}
        fileset {top}
    }
    if {![dict exists $allowed $kind]} { error "set_property: no properties known of $object" }
    known "property of a $kind" $name [dict get $allowed $kind]
    if {$name eq "top"} { check_source $value }
    dict set properties $object $name $value
}

proc stub::configure {cell property value} {
    variable cells
    if {![regsub {^CONFIG\.} $property {} name]} {
        error "set_property: a cell's parameters begin with CONFIG., found $property"
    }
    set ip [dict get $cells $cell ip]
    set patterns [dict get $catalogue::parameters $ip]
    foreach pattern $patterns {
        if {[string match $pattern $name]} {
            check_value $ip $name $value
            dict set cells $cell config $name $value
            return
        }
    }
    error "set_property: $ip has no parameter $name; known are $patterns"
}

proc stub::check_value {ip name value} {
    if {![dict exists $catalogue::values $ip]} { return }
    dict for {pattern allowed} [dict get $catalogue::values $ip] {
        if {[string match $pattern $name] && $value ni $allowed} {
            error "set_property: $name cannot be \"$value\"; allowed are $allowed"
        }
    }
}

proc stub::do_get_property {options words} {
    variable properties
    lassign $words name object
    if {[string match cell=* $object]} { return [derived [name_of cell $object] $name] }
    if {[string match path=* $object] && $name eq "SLACK"} { return [name_of path $object] }
    if {[string match run=* $object]} { return [run_property [name_of run $object] $name] }
    if {[dict exists $properties $object $name]} { return [dict get $properties $object $name] }
    error "get_property: $name of \"$object\" is not known"
}

# Frequencies and dividers as the PS computes them: the nearest, which may be higher.
proc stub::derived {cell property} {
    variable cells
    variable settings
    variable other_pll_mhz
    set ip [dict get $cells $cell ip]
    set config [dict get $cells $cell config]
    set names {
        xilinx.com:ip:processing_system7 {PCW_FCLK0_PERIPHERAL_CLKSRC
            PCW_FPGA0_PERIPHERAL_FREQMHZ 1000
            PCW_ACT_FPGA0_PERIPHERAL_FREQMHZ PCW_FCLK0_PERIPHERAL_DIVISOR0
            PCW_FCLK0_PERIPHERAL_DIVISOR1}
        xilinx.com:ip:zynq_ultra_ps_e {PSU__CRL_APB__PL0_REF_CTRL__SRCSEL
            PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ 1499.985
            PSU__CRL_APB__PL0_REF_CTRL__ACT_FREQMHZ PSU__CRL_APB__PL0_REF_CTRL__DIVISOR0
            PSU__CRL_APB__PL0_REF_CTRL__DIVISOR1}
    }
    lassign [dict get $names $ip] source asked pll actual first second
    if {$settings(PLL_MHZ) ne ""} { set pll $settings(PLL_MHZ) }
    if {[config_of $cell $source] ni {"" IOPLL "IO PLL"}} { set pll $other_pll_mhz }
    set divisor [expr {round($pll / double([dict get $config $asked]))}]
    switch -- [regsub {^CONFIG\.} $property {}] \
        $actual { return [format %.6f [expr {double($pll) / $divisor}]] } \
        $first { return $divisor } \
        $second { return 1 } \
        default { error "get_property: $property of $cell is not known" }
}

# ------------------------------------------------------------------------------ cells

proc stub::do_create_bd_design {options words} { return [object design [lindex $words 0]] }

proc stub::do_current_bd_design {options words} {
    return [object design [expr {[llength $words] ? [lindex $words 0] : "neuralmatrix"}]]
}

proc stub::do_create_bd_cell {options words} {
    variable cells
    variable settings
    set vlnv [option $options -vlnv]
    set parts [split $vlnv :]
    if {[llength $parts] != 4} { error "create_bd_cell: \"$vlnv\" is no VLNV" }
    set ip [join [lrange $parts 0 2] :]
    known IP $ip [dict keys $catalogue::versions]
    known "version of $ip" [lindex $parts 3] [dict get $catalogue::versions $ip]
    set name [lindex $words 0]
    if {[dict exists $cells $name]} { error "create_bd_cell: $name exists already" }
    dict set cells $name [list ip $ip config {}]
    return [object cell $name]
}

proc stub::do_get_bd_cells {options words} {
    variable cells
    set found {}
    foreach name $words {
        if {[dict exists $cells $name]} { lappend found [object cell $name] }
    }
    return $found
}

proc stub::do_apply_bd_automation {options words} {
    variable cells
    set cell [name_of cell [lindex $words 0]]
    set rules {
        xilinx.com:bd_rule:processing_system7 {make_external apply_board_preset Master Slave}
        xilinx.com:bd_rule:zynq_ultra_ps_e {apply_board_preset}
    }
    set rule [option $options -rule]
    known rule $rule [dict keys $rules]
    if {[lindex [split $rule :] end] ne [lindex [split [dict get $cells $cell ip] :] end]} {
        error "apply_bd_automation: $rule is not for [dict get $cells $cell ip]"
    }
    if {[dict get $cells $cell config] ne {}} {
        error "apply_bd_automation: a preset after parameters of $cell were set would undo them"
    }
    set config [option $options -config]
    dict for {name -} $config { known setting $name [dict get $rules $rule] }
    # The ARM's memory and its pins are ports of the design, else the PS has neither.
    foreach port {FIXED_IO DDR} {
        if {"make_external" in [dict get $rules $rule]
            && $port ni [split [dict_or_empty $config make_external] ", "]} {
            error "apply_bd_automation: $port of $cell is left unconnected"
        }
    }
}

# ------------------------------------------------------------------------------ connections

# Returns {name ...} of a cell's pins of a kind.
proc stub::pins_of {kind cell} {
    variable cells
    lassign [list [dict get $cells $cell ip] [dict get $cells $cell config]] ip config
    return [expr {$kind eq "intf" ? [catalogue::interfaces $ip $config]
                                  : [catalogue::pins $ip $config]}]
}

proc stub::find_pin {kind path} {
    variable cells
    lassign [split $path /] cell pin
    known cell $cell [dict keys $cells]
    set pins [pins_of $kind $cell]
    foreach entry $pins {
        if {[lindex $entry 0] eq $pin} { return $entry }
    }
    set names [lmap entry $pins { lindex $entry 0 }]
    error "[dict get $cells $cell ip] as $cell has no pin $pin; it has [lsort $names]"
}

proc stub::do_get_bd_pins {options words} {
    return [lmap path $words { find_pin pin $path; object pin $path }]
}

proc stub::do_get_bd_intf_pins {options words} {
    return [lmap path $words { find_pin intf $path; object intf $path }]
}

proc stub::take {path} {
    variable connected
    if {[dict exists $connected $path]} { error "$path is connected twice" }
    dict set connected $path 1
}

proc stub::do_connect_bd_intf_net {options words} {
    variable buses
    lassign [lmap object $words { name_of intf $object }] one two
    lassign [find_pin intf $one] - kind_one mode_one
    lassign [find_pin intf $two] - kind_two mode_two
    if {$kind_one ne $kind_two} { error "$one is $kind_one, $two is $kind_two" }
    if {$mode_one eq $mode_two} { error "$one and $two are both $mode_one" }
    check_buses $kind_one $one $two
    take $one
    take $two
    lassign [expr {$mode_one eq "Master" ? [list $one $two] : [list $two $one]}] master slave
    dict set buses $master $slave
}

proc stub::do_connect_bd_net {options words} {
    variable drivers
    set outputs {}
    set inputs {}
    foreach object [concat {*}$words] {
        set path [name_of pin $object]
        if {[lindex [find_pin pin $path] 1] eq "O"} {
            lappend outputs $path
        } else {
            lappend inputs $path
        }
    }
    if {[llength $outputs] != 1} { error "a net needs one driver, found \"$outputs\"" }
    if {![llength $inputs]} { error "nothing listens to $outputs" }
    foreach path $inputs {
        take $path
        check_wire [lindex $outputs 0] $path
        dict set drivers $path [lindex $outputs 0]
    }
    dict set drivers [lindex $outputs 0] [lindex $outputs 0]
}

# ------------------------------------------------------------------------------ addresses

# Returns the address segments of a slave pin.
proc stub::pin_segments {cell pin} {
    variable cells
    set ip [dict get $cells $cell ip]
    if {[string match neuralmatrix:hls:* $ip]} { return [list $cell/$pin/Reg] }
    if {$ip eq "xilinx.com:ip:axi_intc"} { return [list $cell/S_AXI/Reg] }
    return [lmap name [dict_or_empty $catalogue::segments $ip] {
        string cat $cell/ [segment_of $pin] _$name
    }]
}

proc stub::memory_mapped {cell wanted} {
    set found {}
    foreach entry [pins_of intf $cell] {
        lassign $entry pin kind mode
        if {$kind eq "aximm" && $mode eq $wanted} { lappend found $pin }
    }
    return $found
}

proc stub::register_segments {cell} {
    return [concat {*}[lmap pin [memory_mapped $cell Slave] { pin_segments $cell $pin }]]
}

# Returns the segments that a master reaches, also through interconnects.
proc stub::reached {cell pin} {
    variable cells
    variable buses
    lassign [split [dict_or_empty $buses $cell/$pin] /] slave slave_pin
    if {$slave eq ""} { return {} }
    if {[lindex [split [dict get $cells $slave ip] :] end] ni {axi_interconnect smartconnect}} {
        return [pin_segments $slave $slave_pin]
    }
    return [concat {*}[lmap next [memory_mapped $slave Master] { reached $slave $next }]]
}

# Returns the segments that the masters of an address space reach.
proc stub::space_segments {space} {
    lassign [split $space /] cell name
    set pins [expr {$name eq "Data" ? [memory_mapped $cell Master]
                                    : [list [string range $name [string length Data_] end]]}]
    return [concat {*}[lmap pin $pins { reached $cell $pin }]]
}

proc stub::check_reached {space segment} {
    if {$segment ni [space_segments $space]} { error "$segment is not reached from $space" }
}

# S_AXI_HP0 -> S_AXI_HP0/HP0, S_AXI_HP0_FPD -> SAXIGP2/HP0.
proc stub::segment_of {pin} {
    if {[regexp {^S_AXI_(HP\d)$} $pin - port]} { return $pin/$port }
    regexp {^S_AXI_(HP\d|HPC\d)_FPD$} $pin - port
    return SAXIGP[lsearch {HPC0 HPC1 HP0 HP1 HP2 HP3} $port]/$port
}

proc stub::address_spaces {cell} {
    variable cells
    set ip [dict get $cells $cell ip]
    if {[dict exists $catalogue::segments $ip]} { return [list $cell/Data] }
    set found {}
    foreach entry [pins_of intf $cell] {
        lassign $entry pin - mode
        if {[string match m_axi_* $pin]} { lappend found $cell/Data_$pin }
    }
    return $found
}

proc stub::look_up {kind command options words} {
    variable cells
    set all [concat {*}[lmap cell [dict keys $cells] { $command $cell }]]
    set found {}
    foreach name $words {
        if {$name in $all} {
            lappend found [object $kind $name]
        } elseif {[option $options -quiet] ne "true"} {
            error "no $kind $name; there are [lsort $all]"
        }
    }
    return $found
}

proc stub::do_get_bd_addr_segs {options words} {
    return [look_up segment register_segments $options $words]
}

proc stub::do_get_bd_addr_spaces {options words} {
    return [look_up space address_spaces $options $words]
}

proc stub::do_assign_bd_address {options words} {
    variable addresses
    set space [name_of space [option $options -target_address_space]]
    set segment [name_of segment [lindex $words 0]]
    check_reached $space $segment
    set offset [option $options -offset]
    if {$offset ne ""} {
        set first [expr {$offset}]
        set last [expr {$offset + [option $options -range] - 1}]
        if {$first % ($last - $first + 1)} { error "$segment: $offset is no multiple of its range" }
        foreach {other range} [dict_or_empty $addresses $space] {
            lassign $range from to
            if {$from ne "" && $first <= $to && $last >= $from} {
                error "$segment overlaps $other in $space"
            }
        }
    }
    dict set addresses $space $segment [expr {$offset eq "" ? {} : [list $first $last]}]
}

proc stub::dict_or_empty {all key} {
    return [expr {[dict exists $all $key] ? [dict get $all $key] : {}}]
}

proc stub::do_exclude_bd_addr_seg {options words} {
    variable excluded
    set space [name_of space [option $options -target_address_space]]
    set segment [name_of segment [lindex $words 0]]
    check_reached $space $segment
    dict set excluded $space $segment 1
}

# ------------------------------------------------------------------------------ validation

proc stub::do_validate_bd_design {options words} {
    variable cells
    variable connected
    variable drivers
    variable validated
    set open {}
    foreach cell [dict keys $cells] {
        foreach entry [pins_of intf $cell] {
            if {![dict exists $connected $cell/[lindex $entry 0]]} {
                lappend open $cell/[lindex $entry 0]
            }
        }
        foreach entry [pins_of pin $cell] {
            lassign $entry pin - need
            if {$need eq "must" && ![dict exists $drivers $cell/$pin]} { lappend open $cell/$pin }
        }
    }
    if {[llength $open]} { error "validate_bd_design: not connected: [lsort $open]" }
    check_addresses
    set validated 1
}

# Every segment that a master reaches is mapped or excluded.
proc stub::check_addresses {} {
    variable cells
    variable addresses
    variable excluded
    foreach cell [dict keys $cells] {
        foreach space [address_spaces $cell] {
            set mapped [dict_or_empty $addresses $space]
            if {![llength $mapped]} { error "validate_bd_design: nothing is mapped in $space" }
            foreach segment [space_segments $space] {
                set ways [expr {[dict exists $mapped $segment]
                                + [dict exists $excluded $space $segment]}]
                set how [lindex {"neither mapped nor" "" "both mapped and"} $ways]
                if {$how ne ""} {
                    error "validate_bd_design: $segment is $how excluded in $space"
                }
            }
        }
    }
}

proc stub::do_save_bd_design {options words} {
    variable validated
    if {!$validated} { error "save_bd_design: the design was not validated" }
}
