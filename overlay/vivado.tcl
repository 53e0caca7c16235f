# SPDX-License-Identifier: Apache-2.0
# Makes a bitstream with met timing from exported kernels.
#   vivado -mode batch -source vivado.tcl -tclargs DATA IPS OUT JOBS
# In: DATA as overlay/tcl_data.py writes it, the folder of the kernels' IPs, an empty folder OUT.
# Out: OUT/neuralmatrix.bit and .hwh, timing.rpt, utilization.rpt, power.rpt and results.txt; the
# reports also where timing is missed, with missed.txt, which says by how much.
# NEURALMATRIX_BOARD_REPO names folders with board files that Vivado does not include.

source [file join [file dirname [file normalize [info script]]] design.tcl]

proc board_repositories {} {
    if {[info exists ::env(NEURALMATRIX_BOARD_REPO)]} {
        set_param board.repoPaths [split $::env(NEURALMATRIX_BOARD_REPO) :]
    }
}

# The board files as the board file names them, or the newest version of them that is installed.
proc installed_board {board_part board_files} {
    set family [join [lrange [split $board_part :] 0 2] :]
    foreach pattern [list $board_part $family:*] {
        set found [lsort -dictionary [get_board_parts -quiet $pattern]]
        if {[llength $found]} {
            return [lindex $found end]
        }
    }
    error "board files of $board_part are not installed: $board_files; set NEURALMATRIX_BOARD_REPO\
        to the folder that holds them"
}

proc open_project_for {design out ips} {
    dict with design {
        create_project -force -part $part $name [file join $out project]
        set_property board_part [installed_board $board_part $board_files] [current_project]
    }
    set_property ip_repo_paths [list $ips] [current_project]
    update_ip_catalog
}

proc make_top {design} {
    set name [dict get $design name]
    set file [get_files $name.bd]
    generate_target all $file
    add_files -norecurse [make_wrapper -top $file]
    set_property top ${name}_wrapper [get_filesets sources_1]
    update_compile_order -fileset sources_1
}

proc finish_run {name jobs} {
    set run [get_runs $name]
    launch_runs $run -jobs $jobs
    wait_on_run $run
    if {[get_property PROGRESS $run] ne "100%"} {
        error "$name stopped: [get_property STATUS $run]; see\
            [file join [get_property DIRECTORY $run] runme.log]"
    }
}

# The arrays fill most of a part, so the strategy favours timing.
proc implement {jobs} {
    set_property strategy Performance_ExplorePostRoutePhysOpt [get_runs impl_1]
    finish_run synth_1 $jobs
    finish_run impl_1 $jobs
    open_run impl_1
}

proc worst_slack {kind} {
    set path [get_timing_paths -$kind -max_paths 1]
    if {![llength $path]} {
        error "timing: no $kind path is constrained; the design has no clock"
    }
    return [get_property SLACK $path]
}

proc write_reports {out} {
    report_timing_summary -file [file join $out timing.rpt]
    report_utilization -file [file join $out utilization.rpt]
    report_power -file [file join $out power.rpt]
}

# The build reads missed.txt, and tries the slower clock of the board file.
proc miss_timing {out clock why} {
    set text "timing is not met at [dict get $clock mhz] MHz: $why"
    set file [open [file join $out missed.txt] w]
    puts $file $text
    close $file
    error $text
}

# Checks both the worst paths and the report's sentence, which also covers pulse widths.
proc check_timing {out clock} {
    set report [file join $out timing.rpt]
    set setup [worst_slack setup]
    set hold [worst_slack hold]
    if {$setup < 0 || $hold < 0} {
        miss_timing $out $clock "worst slack is $setup ns for setup and $hold ns for hold; see\
            $report"
    }
    set file [open $report]
    set text [read $file]
    close $file
    if {[string first "All user specified timing constraints are met." $text] < 0} {
        miss_timing $out $clock "$report lacks the sentence that all constraints are met"
    }
    return [expr {min($setup, $hold)}]
}

# .bit and .hwh share a stem, by which pynq finds the .hwh.
proc write_results {design out slack} {
    set name [dict get $design name]
    write_bitstream -force [file join $out $name.bit]
    set found [glob -nocomplain -directory [file join $out project] \
        $name.{gen,srcs}/sources_1/bd/$name/hw_handoff/$name.hwh]
    if {![llength $found]} {
        error "Vivado wrote no $name.hwh under [file join $out project]"
    }
    file copy -force [lindex $found 0] [file join $out $name.hwh]
    set file [open [file join $out results.txt] w]
    puts $file "worst_slack_ns $slack"
    puts $file "vivado [version -short]"
    close $file
}

proc main {data ips out jobs} {
    source $data
    board_repositories
    open_project_for $DESIGN $out $ips
    build_design $DESIGN
    make_top $DESIGN
    implement $jobs
    write_reports $out
    set slack [check_timing $out [dict get $DESIGN clock]]
    write_results $DESIGN $out $slack
}

if {[llength $argv] != 4} {
    puts stderr "usage: vivado -mode batch -source vivado.tcl -tclargs DATA IPS OUT JOBS"
    exit 2
}
if {[catch {main {*}$argv} message options]} {
    puts stderr "ERROR: $message"
    exit 1
}
