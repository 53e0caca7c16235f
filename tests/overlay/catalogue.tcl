# SPDX-License-Identifier: Apache-2.0
# The IPs that our design may use: parameters, interface pins and pins.
# In: a cell's configuration.  Out: per IP its versions, known parameters, and procedures that list
# {name kind mode} of interface pins and {name direction need} of pins, where need is "must" for a
# pin that a design has to connect.  Kernels' pins are read from their C++ sources.

namespace eval catalogue {
    variable versions {
        xilinx.com:ip:processing_system7 {5.5}
        xilinx.com:ip:zynq_ultra_ps_e {3.3 3.5}
        xilinx.com:ip:proc_sys_reset {5.0}
        xilinx.com:ip:axi_interconnect {2.1}
        xilinx.com:ip:smartconnect {1.0}
        xilinx.com:ip:xlconcat {2.1}
        xilinx.com:ip:axi_intc {4.1}
        xilinx.com:ip:c_counter_binary {12.0}
        xilinx.com:ip:axis_data_fifo {2.0}
        xilinx.com:ip:blk_mem_gen {8.3 8.4}
        neuralmatrix:hls:fetch {1.0}
        neuralmatrix:hls:load {1.0}
        neuralmatrix:hls:compute {1.0}
        neuralmatrix:hls:store {1.0}
    }
    # Names may be patterns of string match.
    variable parameters {
        xilinx.com:ip:processing_system7 {PCW_USE_M_AXI_GP[01] PCW_EN_CLK[0-3]_PORT
            PCW_EN_RST[0-3]_PORT PCW_USE_FABRIC_INTERRUPT PCW_IRQ_F2P_INTR PCW_USE_S_AXI_HP[0-3]
            PCW_S_AXI_HP[0-3]_DATA_WIDTH PCW_FCLK[0-3]_PERIPHERAL_CLKSRC
            PCW_FPGA[0-3]_PERIPHERAL_FREQMHZ}
        xilinx.com:ip:zynq_ultra_ps_e {PSU__USE__M_AXI_GP[012] PSU__MAXIGP[012]__DATA_WIDTH
            PSU__FPGA_PL[0-3]_ENABLE PSU__USE__IRQ[01] PSU__OVERRIDE__BASIC_CLOCK
            PSU__USE__S_AXI_GP[0-6] PSU__SAXIGP[0-6]__DATA_WIDTH
            PSU__CRL_APB__PL[0-3]_REF_CTRL__SRCSEL PSU__CRL_APB__PL[0-3]_REF_CTRL__FREQMHZ}
        xilinx.com:ip:proc_sys_reset {C_EXT_RST_WIDTH C_AUX_RST_WIDTH C_EXT_RESET_HIGH
            C_NUM_PERP_ARESETN C_NUM_INTERCONNECT_ARESETN}
        xilinx.com:ip:axi_interconnect {NUM_SI NUM_MI STRATEGY}
        xilinx.com:ip:smartconnect {NUM_SI NUM_MI NUM_CLKS}
        xilinx.com:ip:xlconcat {NUM_PORTS}
        xilinx.com:ip:axi_intc {C_IRQ_CONNECTION C_IRQ_IS_LEVEL C_KIND_OF_INTR C_ASYNC_INTR}
        xilinx.com:ip:c_counter_binary {Output_Width CE SCLR Load Implementation Latency}
        xilinx.com:ip:axis_data_fifo {TDATA_NUM_BYTES FIFO_DEPTH FIFO_MEMORY_TYPE FIFO_MODE
            HAS_TLAST HAS_TKEEP HAS_TSTRB IS_ACLK_ASYNC}
        xilinx.com:ip:blk_mem_gen {Memory_Type use_bram_block Assume_Synchronous_Clk
            EN_SAFETY_CKT Enable_32bit_Address Use_Byte_Write_Enable Byte_Size Write_Width_[AB]
            Read_Width_[AB] Write_Depth_A Enable_[AB] Use_RST[AB]_Pin
            Register_Port[AB]_Output_of_Memory_Primitives PRIM_type_to_Implement
            READ_LATENCY_[AB] Operating_Mode_[AB]}
        neuralmatrix:hls:fetch {}
        neuralmatrix:hls:load {}
        neuralmatrix:hls:compute {}
        neuralmatrix:hls:store {}
    }
    # Values that the tools accept; a parameter that is not listed takes any value.
    variable values {
        xilinx.com:ip:axis_data_fifo {
            FIFO_DEPTH {16 32 64 128 256 512 1024 2048 4096 8192 16384 32768}
            FIFO_MEMORY_TYPE {auto block distributed ultra}
        }
        xilinx.com:ip:blk_mem_gen {
            Memory_Type {Single_Port_RAM Simple_Dual_Port_RAM True_Dual_Port_RAM Single_Port_ROM
                Dual_Port_ROM}
            PRIM_type_to_Implement {BRAM URAM}
            Operating_Mode_[AB] {WRITE_FIRST READ_FIRST NO_CHANGE}
            use_bram_block {Stand_Alone BRAM_Controller}
            Enable_A {Always_Enabled Use_ENA_Pin}
            Enable_B {Always_Enabled Use_ENB_Pin}
            Byte_Size {8 9}
            Assume_Synchronous_Clk {true false}
            Use_RST[AB]_Pin {true false}
        }
        xilinx.com:ip:axi_intc {C_IRQ_CONNECTION {0 1}}
        xilinx.com:ip:processing_system7 {
            PCW_S_AXI_HP[0-3]_DATA_WIDTH {32 64}
            PCW_FCLK[0-3]_PERIPHERAL_CLKSRC {{IO PLL} {ARM PLL} {DDR PLL} External}
        }
        xilinx.com:ip:zynq_ultra_ps_e {
            PSU__SAXIGP[0-6]__DATA_WIDTH {32 64 128}
            PSU__MAXIGP[0-2]__DATA_WIDTH {32 64 128}
            PSU__CRL_APB__PL[0-3]_REF_CTRL__SRCSEL {IOPLL RPLL DPLL}
        }
    }
    variable segments {
        xilinx.com:ip:processing_system7 {DDR_LOWOCM}
        xilinx.com:ip:zynq_ultra_ps_e {DDR_LOW DDR_HIGH LPS_OCM QSPI}
    }
}

proc catalogue::on {config name {otherwise 0}} {
    if {[dict exists $config $name]} {
        return [expr {[dict get $config $name] eq "1"}]
    }
    return $otherwise
}

proc catalogue::count {config name otherwise} {
    return [expr {[dict exists $config $name] ? [dict get $config $name] : $otherwise}]
}

# ------------------------------------------------------------------------------ interface pins

proc catalogue::interfaces {ip config} {
    set name [lindex [split $ip :] end]
    if {[string match neuralmatrix:hls:* $ip]} {
        return [lindex [kernel_pins $name] 0]
    }
    return [interfaces_of_$name $config]
}

proc catalogue::interfaces_of_processing_system7 {config} {
    set found {}
    foreach i {0 1} {
        if {[on $config PCW_USE_M_AXI_GP$i [expr {$i == 0}]]} {
            lappend found [list M_AXI_GP$i aximm Master]
        }
    }
    foreach i {0 1 2 3} {
        if {[on $config PCW_USE_S_AXI_HP$i]} { lappend found [list S_AXI_HP$i aximm Slave] }
    }
    return $found
}

proc catalogue::interfaces_of_zynq_ultra_ps_e {config} {
    set found {}
    # A preset leaves the two masters of the full power domain on.
    foreach {i pin} {0 M_AXI_HPM0_FPD 1 M_AXI_HPM1_FPD 2 M_AXI_HPM0_LPD} {
        if {[on $config PSU__USE__M_AXI_GP$i [expr {$i < 2}]]} {
            lappend found [list $pin aximm Master]
        }
    }
    foreach {i pin} {0 HPC0 1 HPC1 2 HP0 3 HP1 4 HP2 5 HP3} {
        if {[on $config PSU__USE__S_AXI_GP$i]} {
            lappend found [list S_AXI_${pin}_FPD aximm Slave]
        }
    }
    return $found
}

proc catalogue::ports {letter count} {
    set found {}
    for {set i 0} {$i < $count} {incr i} { lappend found [format %s%02d $letter $i] }
    return $found
}

proc catalogue::interfaces_of_axi_interconnect {config} {
    set found {}
    foreach port [ports S [count $config NUM_SI 1]] { lappend found [list ${port}_AXI aximm Slave] }
    foreach port [ports M [count $config NUM_MI 2]] {
        lappend found [list ${port}_AXI aximm Master]
    }
    return $found
}

proc catalogue::interfaces_of_smartconnect {config} {
    set found {}
    foreach port [ports S [count $config NUM_SI 2]] { lappend found [list ${port}_AXI aximm Slave] }
    foreach port [ports M [count $config NUM_MI 1]] {
        lappend found [list ${port}_AXI aximm Master]
    }
    return $found
}

proc catalogue::interfaces_of_axis_data_fifo {config} {
    return {{S_AXIS axis Slave} {M_AXIS axis Master}}
}
proc catalogue::interfaces_of_blk_mem_gen {config} {
    set found {{BRAM_PORTA bram Slave}}
    if {[dict exists $config Memory_Type]
        && [string match *Dual_Port_RAM [dict get $config Memory_Type]]} {
        lappend found {BRAM_PORTB bram Slave}
    }
    return $found
}
proc catalogue::interfaces_of_axi_intc {config} { return {{s_axi aximm Slave}} }
proc catalogue::interfaces_of_proc_sys_reset {config} { return {} }
proc catalogue::interfaces_of_xlconcat {config} { return {} }
proc catalogue::interfaces_of_c_counter_binary {config} { return {} }

# ------------------------------------------------------------------------------ pins

proc catalogue::pins {ip config} {
    set name [lindex [split $ip :] end]
    if {[string match neuralmatrix:hls:* $ip]} {
        return [lindex [kernel_pins $name] 1]
    }
    return [pins_of_$name $config]
}

proc catalogue::pins_of_processing_system7 {config} {
    set found {}
    if {[on $config PCW_EN_CLK0_PORT 1]} { lappend found {FCLK_CLK0 O must} }
    if {[on $config PCW_EN_RST0_PORT 1]} { lappend found {FCLK_RESET0_N O must} }
    foreach i {0 1} {
        if {[on $config PCW_USE_M_AXI_GP$i [expr {$i == 0}]]} {
            lappend found [list M_AXI_GP${i}_ACLK I must]
        }
    }
    foreach i {0 1 2 3} {
        if {[on $config PCW_USE_S_AXI_HP$i]} { lappend found [list S_AXI_HP${i}_ACLK I must] }
    }
    if {[on $config PCW_USE_FABRIC_INTERRUPT] && [on $config PCW_IRQ_F2P_INTR]} {
        lappend found {IRQ_F2P I must}
    }
    return $found
}

proc catalogue::pins_of_zynq_ultra_ps_e {config} {
    set found {{pl_resetn0 O must}}
    if {[on $config PSU__FPGA_PL0_ENABLE 1]} { lappend found {pl_clk0 O must} }
    foreach {i pin} {0 maxihpm0_fpd_aclk 1 maxihpm1_fpd_aclk 2 maxihpm0_lpd_aclk} {
        if {[on $config PSU__USE__M_AXI_GP$i [expr {$i < 2}]]} {
            lappend found [list $pin I must]
        }
    }
    foreach {i pin} {0 hpc0 1 hpc1 2 hp0 3 hp1 4 hp2 5 hp3} {
        if {[on $config PSU__USE__S_AXI_GP$i]} { lappend found [list saxi${pin}_fpd_aclk I must] }
    }
    if {[on $config PSU__USE__IRQ0]} { lappend found {pl_ps_irq0 I must} }
    return $found
}

proc catalogue::pins_of_axi_interconnect {config} {
    set found {{ACLK I must} {ARESETN I must}}
    set sides [concat [ports S [count $config NUM_SI 1]] [ports M [count $config NUM_MI 2]]]
    foreach side $sides { lappend found [list ${side}_ACLK I must] [list ${side}_ARESETN I must] }
    return $found
}

proc catalogue::pins_of_xlconcat {config} {
    set found {{dout O must}}
    for {set i 0} {$i < [count $config NUM_PORTS 2]} {incr i} { lappend found [list In$i I must] }
    return $found
}

proc catalogue::pins_of_smartconnect {config} { return {{aclk I must} {aresetn I must}} }
proc catalogue::pins_of_axis_data_fifo {config} {
    return {{s_axis_aclk I must} {s_axis_aresetn I must}}
}
proc catalogue::pins_of_blk_mem_gen {config} { return {} }
proc catalogue::pins_of_axi_intc {config} {
    set found {{s_axi_aclk I must} {s_axi_aresetn I must} {intr I must}}
    # A bus output has no pin of its own.
    if {[on $config C_IRQ_CONNECTION]} { lappend found {irq O must} }
    return $found
}
proc catalogue::pins_of_proc_sys_reset {config} {
    return {{slowest_sync_clk I must} {ext_reset_in I must} {aux_reset_in I may}
        {mb_debug_sys_rst I may} {dcm_locked I may} {mb_reset O may} {bus_struct_reset O may}
        {peripheral_reset O may} {interconnect_aresetn O may} {peripheral_aresetn O may}}
}
proc catalogue::pins_of_c_counter_binary {config} { return {{CLK I must} {Q O must}} }

# ------------------------------------------------------------------------------ kernels

# The pins that Vitis HLS makes from the interface macros of a kernel's source.
proc catalogue::kernel_pins {kernel} {
    set path [file join $::HLS_SOURCES $kernel.cpp]
    set file [open $path]
    set text [read $file]
    close $file
    set interfaces {{s_axi_control aximm Slave}}
    foreach {- - bundle} [regexp -all -inline {NM_MAXI\((\w+),\s*(\w+)} $text] {
        lappend interfaces [list m_axi_$bundle aximm Master]
    }
    foreach {- name} [regexp -all -inline {NM_STREAM\((\w+)\)} $text] {
        set written [regexp "\\m$name\\.write\\(" $text]
        lappend interfaces [list $name axis [expr {$written ? "Master" : "Slave"}]]
    }
    foreach {- name} [regexp -all -inline {NM_BRAM\((\w+)\)} $text] {
        lappend interfaces [list ${name}_PORTA bram Master]
    }
    set pins {{ap_clk I must} {ap_rst_n I must} {interrupt O must}}
    foreach {- name} [regexp -all -inline {NM_WIRE\((\w+)\)} $text] {
        lappend pins [list $name I must]
    }
    return [list $interfaces $pins]
}
