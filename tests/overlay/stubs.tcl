# SPDX-License-Identifier: Apache-2.0
# Runs a script for Vivado or Vitis HLS in plain tclsh, records its commands, and stops at an
# unknown command, option, IP, parameter or pin.
#   tclsh stubs.tcl vivado|hls RECORD SCRIPT ARGUMENTS...
# In: the script.  Out: RECORD, one JSON object per command: command, options, arguments.
# Environment variables set what the tool "finds"; by default all is well:
#   STUB_VERSION       the tool's version
#   STUB_BOARD_PARTS   board parts installed, a list; * is all
#   STUB_MISSING_IPS   IPs (vendor:library:name) absent from the catalogue, a list
#   STUB_PLL_MHZ       PLL of the PS preset; the PS divides it to the nearest frequency
#   STUB_SETUP_SLACK, STUB_HOLD_SLACK   ns of the worst paths
#   STUB_TIMING_MET    0: the timing report lacks its sentence of success
#   STUB_FAILING_RUN   a run that does not complete
#   STUB_FAILING_COMMAND  a command that fails
#   STUB_HLS_SOURCES   folder of the kernels' sources

set ::HERE [file dirname [file normalize [info script]]]
set ::HLS_SOURCES [file join $::HERE .. .. hls src]
foreach name {commands.tcl catalogue.tcl} { source [file join $::HERE $name] }

namespace eval stub {
    variable records {}
    variable settings
    array set settings {
        VERSION 2024.1 BOARD_PARTS * MISSING_IPS {} PLL_MHZ {} SETUP_SLACK 0.25 HOLD_SLACK 0.03
        TIMING_MET 1 FAILING_RUN {} FAILING_COMMAND {} HLS_SOURCES {}
    }
    foreach name [array names settings] {
        if {[info exists ::env(STUB_$name)]} { set settings($name) $::env(STUB_$name) }
    }
    if {$settings(HLS_SOURCES) ne ""} { set ::HLS_SOURCES $settings(HLS_SOURCES) }
    # The project: its properties, the block design's cells, buses, wires and addresses.
    variable project {name "" folder ""}
    variable properties {}
    variable cells {}
    variable connected {}
    variable buses {}
    variable drivers {}
    variable addresses {}
    variable excluded {}
    variable validated 0
}

# ------------------------------------------------------------------------------ recording

proc stub::json {text} {
    set pairs [list \\ \\\\ \" \\\" \n \\n \r \\r \t \\t]
    return "\"[string map $pairs $text]\""
}

proc stub::json_list {items} {
    set texts {}
    foreach item $items { lappend texts [json $item] }
    return "\[[join $texts {, }]\]"
}

proc stub::record {command options arguments} {
    variable records
    set texts {}
    dict for {name value} $options { lappend texts "[json $name]: [json $value]" }
    lappend records "{\"command\": [json $command], \"options\": {[join $texts {, }]},\
        \"arguments\": [json_list $arguments]}"
}

proc stub::finish {code {message ""}} {
    variable records
    set file [open $::RECORD w]
    puts $file [join $records \n]
    close $file
    if {$message ne ""} { puts stderr "ERROR: $message" }
    ::stub::real_exit $code
}

# ------------------------------------------------------------------------------ arguments

proc stub::is_flag_value {text} { return [expr {$text in {true false 0 1}}] }

# Checks options and words of a call against the table.
proc stub::parse {command arguments} {
    lassign [dict get $::COMMANDS($::TOOL) $command] valued flags fewest most
    set flags [concat $flags $::COMMON($::TOOL)]
    set options {}
    set words {}
    while {[llength $arguments]} {
        set arguments [lassign $arguments word]
        if {![string match -?* $word] || [string is double -strict $word]} {
            lappend words $word
            continue
        }
        set assigned [expr {$::TOOL eq "hls" && [regexp {^(-\w[\w-]*)=(.*)$} $word - word value]}]
        if {$word in $valued} {
            if {!$assigned} {
                if {![llength $arguments]} { error "$command: option $word needs a value" }
                set arguments [lassign $arguments value]
            }
            dict set options $word $value
        } elseif {$word in $flags} {
            if {$assigned && ![is_flag_value $value]} {
                error "$command: flag $word takes true or false, not $value"
            }
            dict set options $word [expr {$assigned ? $value : "true"}]
        } else {
            error "$command: unknown option $word; known are [lsort [concat $valued $flags]]"
        }
    }
    set count [llength $words]
    if {$count < $fewest || ($most >= 0 && $count > $most)} {
        error "$command: takes $fewest to $most words, found $count: $words"
    }
    return [list $options $words]
}

proc stub::call {command arguments} {
    variable settings
    lassign [parse $command $arguments] options words
    if {$command ne "set_property"} { record $command $options $words }
    if {$command eq $settings(FAILING_COMMAND)} { error "$command: failed, as asked for" }
    if {[info procs ::stub::do_$command] eq ""} { return "" }
    return [do_$command $options $words]
}

proc stub::known {what name names} {
    if {$name ni $names} { error "unknown $what $name; known are [lsort $names]" }
}

proc stub::option {options name {otherwise ""}} {
    return [expr {[dict exists $options $name] ? [dict get $options $name] : $otherwise}]
}

proc stub::do_exit {options words} { finish [expr {[llength $words] ? [lindex $words 0] : 0}] }

foreach name {vivado_model.tcl vivado_widths.tcl vivado_runs.tcl} { source [file join $::HERE $name] }

# ------------------------------------------------------------------------------ running

rename exit ::stub::real_exit
lassign $argv ::TOOL ::RECORD ::SCRIPT
if {$::TOOL ni {vivado hls} || $::SCRIPT eq ""} {
    puts stderr "usage: tclsh stubs.tcl vivado|hls RECORD SCRIPT ARGUMENTS..."
    ::stub::real_exit 2
}
dict for {name -} $::COMMANDS($::TOOL) {
    proc ::$name args "return \[::stub::call $name \$args\]"
}
proc ::unknown {name args} {
    error "$name is no command of Tcl, nor one that commands.tcl lists for $::TOOL"
}
set argv [lrange $argv 3 end]
set argc [llength $argv]
set argv0 $::SCRIPT
if {[catch {source $::SCRIPT} message options]} {
    puts stderr [dict get $options -errorinfo]
    ::stub::finish 1 $message
}
::stub::finish 0
