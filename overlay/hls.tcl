# SPDX-License-Identifier: Apache-2.0
# Makes IPs for Vivado from the kernels' sources: simulates, synthesizes and exports them.
#   NEURALMATRIX_HLS_DATA=DATA vitis-run --mode hls --tcl hls.tcl     (2024.2 and later)
#   NEURALMATRIX_HLS_DATA=DATA vitis_hls -f hls.tcl                   (2022.2 to 2024.1)
# In: DATA as overlay/hls_data.py writes it.  Out: per kernel OUTPUT/KERNEL/solution with
# syn/report/csynth.xml and impl/ip; per bench OUTPUT/csim_BENCH.
# All differences between boards are in the data; all ports are in the sources' pragmas.

proc check_files {hls} {
    dict with hls {
        set needed [concat $sources $benches $cosim [list [file join [lindex $includes 0] nm config.h]]]
    }
    foreach path $needed {
        if {![file isfile $path]} {
            error "$path is missing: take a whole checkout, and let 'make hls' write the data"
        }
        # Flags are one string to the tool, which it splits at blanks.
        if {[regexp {\s} $path]} {
            error "$path has a blank in it, at which Vitis HLS splits flags: move the checkout"
        }
    }
    foreach kernel [dict get $hls kernels] { source_of $hls $kernel }
}

# A kernel has the name of its file.
proc source_of {hls kernel} {
    foreach path [dict get $hls sources] {
        if {[file rootname [file tail $path]] eq $kernel} { return $path }
    }
    error "kernel $kernel has no source among [dict get $hls sources]"
}

# NM_AP_TYPES selects the vendor's ap_int and stream in simulation, too.  Sums wrap, as in hardware.
proc flags {hls} {
    set words {-std=c++14 -fwrapv -DNM_AP_TYPES}
    foreach folder [dict get $hls includes] { lappend words -I$folder }
    return [join $words]
}

proc open_solution_for {hls} {
    open_solution -reset solution
    set_part [dict get $hls part]
    create_clock -period [dict get $hls period_ns] -name default
}

proc add_sources {hls paths} {
    foreach path $paths { add_files -cflags [flags $hls] $path }
}

proc add_bench_files {hls paths} {
    foreach path $paths { add_files -tb -cflags [flags $hls] $path }
}

proc simulate {hls bench} {
    open_project -reset csim_[file rootname [file tail $bench]]
    set_top [lindex [dict get $hls kernels] 0]
    add_sources $hls [dict get $hls sources]
    add_bench_files $hls [list $bench]
    open_solution_for $hls
    csim_design -O
    close_project
}

# Co-simulation runs this kernel in RTL and the others in C++.
proc cosim_files {hls kernel} {
    set others [lsearch -all -inline -not -exact [dict get $hls sources] [source_of $hls $kernel]]
    return [concat $others [list [dict get $hls cosim]]]
}

proc synthesize {hls kernel} {
    set in_rtl [expr {[dict get $hls cosim] ne ""}]
    # overlay/symptoms.py cuts the log at these lines.
    puts "neuralmatrix: synthesizing $kernel"
    open_project -reset $kernel
    set_top $kernel
    add_sources $hls [list [source_of $hls $kernel]]
    if {$in_rtl} { add_bench_files $hls [cosim_files $hls $kernel] }
    open_solution_for $hls
    dict with hls {
        # 64-bit addresses in all versions: the driver writes both halves.
        config_interface -m_axi_addr64 -m_axi_max_read_burst_length $burst_beats \
            -m_axi_max_write_burst_length $burst_beats
    }
    # These multiply only once per instruction: DSPs are for the array.
    if {$kernel ne "compute"} { config_op -impl fabric mul }
    csynth_design
    if {$in_rtl} { cosim_design -rtl verilog }
    dict with hls {
        export_design -rtl verilog -format ip_catalog -vendor $vendor -library $library \
            -version $version -ipname $kernel -display_name "NeuralMatrix $kernel"
    }
    close_project
}

proc main {data} {
    source $data
    check_files $HLS
    file mkdir [dict get $HLS output]
    cd [dict get $HLS output]
    foreach bench [dict get $HLS benches] { simulate $HLS $bench }
    foreach kernel [dict get $HLS kernels] { synthesize $HLS $kernel }
}

if {![info exists ::env(NEURALMATRIX_HLS_DATA)]} {
    puts stderr "ERROR: NEURALMATRIX_HLS_DATA names no file; 'make hls BOARD=...' sets it"
    exit 2
}
if {[catch {main $::env(NEURALMATRIX_HLS_DATA)} message]} {
    puts stderr "ERROR: $message"
    exit 1
}
exit 0
