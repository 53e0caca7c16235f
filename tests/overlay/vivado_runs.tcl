# SPDX-License-Identifier: Apache-2.0
# The effects of Vivado's commands on files and runs, as far as our scripts use them.
# In: parsed calls.  Out: the files of a run, with the contents that scripts read.

namespace eval stub {
    variable sources {}
    variable launched {}
    variable awaited {}
    variable opened ""
}

# ------------------------------------------------------------------------------ files and runs

proc stub::generated {} {
    variable project
    set name [dict get $project name]
    return [file join [dict get $project folder] $name.gen sources_1 bd $name]
}

proc stub::write {path text} {
    file mkdir [file dirname $path]
    set file [open $path w]
    puts $file $text
    close $file
}

proc stub::do_get_files {options words} { return [lmap name $words { object file $name }] }
proc stub::do_get_filesets {options words} { return [lmap name $words { object fileset $name }] }

proc stub::do_generate_target {options words} {
    variable project
    known target [lindex $words 0] {all synthesis simulation implementation instantiation_template}
    set name [dict get $project name]
    write [file join [generated] hw_handoff $name.hwh] "<EDKSYSTEM/>"
}

proc stub::do_make_wrapper {options words} {
    variable project
    set design [file rootname [name_of file [lindex $words 0]]]
    set path [file join [generated] hdl ${design}_wrapper.v]
    write $path "// wrapper"
    return $path
}

proc stub::do_add_files {options words} {
    variable sources
    foreach path [concat {*}$words] {
        if {![file exists $path]} { error "add_files: no file $path" }
        lappend sources [file rootname [file tail $path]]
    }
}

proc stub::check_source {top} {
    variable sources
    if {$top ni $sources} { error "set_property: top $top is in none of the files added" }
}

proc stub::do_get_runs {options words} {
    foreach name $words { known run $name {synth_1 impl_1} }
    return [lmap name $words { object run $name }]
}

proc stub::run_names {words} {
    set names [lmap word [concat {*}$words] { regsub {^run=} $word {} }]
    foreach name $names { known run $name {synth_1 impl_1} }
    return $names
}

# A run launches the run that it depends on, and none twice.
proc stub::do_launch_runs {options words} {
    variable launched
    variable properties
    if {![dict exists [dict_or_empty $properties [object fileset sources_1]] top]} {
        error "launch_runs: the design has no top"
    }
    foreach name [run_names $words] {
        if {$name in $launched} { error "launch_runs: $name needs to be reset before" }
        lappend launched {*}[expr {$name eq "impl_1" ? {synth_1 impl_1} : $name}]
    }
}
proc stub::do_wait_on_run {options words} {
    variable awaited
    lappend awaited {*}[run_names $words]
}
proc stub::do_open_run {options words} {
    variable opened
    set opened [run_names $words]
    if {[run_property $opened PROGRESS] ne "100%"} { error "open_run: $opened is not complete" }
}

# Reports and bitstreams are made from the open design.
proc stub::check_open {command} {
    variable opened
    if {$opened ne "impl_1"} { error "$command: no implemented design is open" }
}

proc stub::run_property {run name} {
    variable settings
    variable awaited
    set failed [expr {$run eq $settings(FAILING_RUN) || $run ni $awaited}]
    switch -- $name {
        PROGRESS { return [expr {$failed ? "40%" : "100%"}] }
        STATUS { return [expr {$failed ? "synth_design ERROR" : "route_design Complete!"}] }
        DIRECTORY {
            variable project
            set name [dict get $project name]
            return [file join [dict get $project folder] $name.runs $run]
        }
        default { error "get_property: $name of a run is not known" }
    }
}

# ------------------------------------------------------------------------------ results

proc stub::do_get_timing_paths {options words} {
    variable settings
    check_open get_timing_paths
    set hold [expr {[option $options -hold] eq "true" || [option $options -delay_type] eq "min"}]
    set slack [expr {$hold ? $settings(HOLD_SLACK) : $settings(SETUP_SLACK)}]
    return [expr {$slack eq "" ? "" : [object path $slack]}]
}

proc stub::do_report_timing_summary {options words} {
    variable settings
    check_open report_timing_summary
    set sentence [expr {$settings(TIMING_MET) ? "All user specified timing constraints are met."
                                              : "Timing constraints are not met."}]
    write [option $options -file] "| Design Timing Summary\n\n$sentence"
}

proc stub::do_report_utilization {options words} {
    check_open report_utilization
    write [option $options -file] "| Site Type | Used |"
}

proc stub::do_report_power {options words} {
    check_open report_power
    write [option $options -file] "| Total On-Chip Power (W) | 1.802 |"
}

proc stub::do_write_bitstream {options words} {
    check_open write_bitstream
    write [lindex $words 0] "bitstream"
}
