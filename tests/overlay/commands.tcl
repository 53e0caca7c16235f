# SPDX-License-Identifier: Apache-2.0
# The commands of Vivado (UG835) and Vitis HLS (UG1399) that our scripts may use.
# In: nothing.  Out: command -> {options with a value} {flags} {fewest words} {most words}, where
# most = -1 is any number.  An option that is in a manual but not here is added here first.

# Vitis HLS writes an option's value after a space or a "="; a flag takes =true and =false too.
set ::COMMANDS(hls) {
    open_project        {{} {-reset -upgrade} 1 1}
    close_project       {{} {} 0 0}
    open_solution       {{-flow_target} {-reset} 1 1}
    close_solution      {{} {} 0 0}
    set_top             {{} {} 1 1}
    add_files           {{-cflags -csimflags} {-tb -blackbox -appendflags} 1 -1}
    set_part            {{} {} 1 1}
    create_clock        {{-period -name} {} 0 1}
    set_clock_uncertainty {{} {} 1 2}
    config_interface    {{-default_slave_interface -m_axi_alignment_byte_size -m_axi_buffer_impl
                          -m_axi_cache_impl -m_axi_latency -m_axi_max_bitwidth
                          -m_axi_max_read_burst_length -m_axi_max_widen_bitwidth
                          -m_axi_max_write_burst_length -m_axi_min_bitwidth
                          -m_axi_num_read_outstanding -m_axi_num_write_outstanding -m_axi_offset
                          -register_io -s_axilite_auto_restart_counter -s_axilite_interrupt_mode
                          -s_axilite_mailbox -s_axilite_status_regs}
                         {-clock_enable -m_axi_addr64 -m_axi_auto_id_channel -m_axi_auto_max_ports
                          -m_axi_conservative_mode -m_axi_flush_mode -s_axilite_data64
                          -s_axilite_sw_reset} 0 0}
    config_compile      {{-name_max_length -pipeline_flush_in_task -pipeline_loops
                          -pipeline_style}
                         {-complex-mul-dsp -enable_auto_rewind -ignore_long_run_time
                          -no_signed_zeros -pragma_strict_mode -unsafe_math_optimizations} 0 0}
    config_rtl          {{-header -module_prefix -register_reset_num -reset -reset_level
                          -deadlock_detection}
                         {-kernel_profile -module_auto_prefix -mult_keep_attribute
                          -register_all_io -reset_async} 0 0}
    config_schedule     {{} {-enable_dsp_full_reg} 0 0}
    config_storage      {{-impl -auto_srl_max_bits -auto_srl_max_depth} {} 0 1}
    config_op           {{-impl -latency -precision} {} 1 1}
    config_export       {{-description -display_name -flow -format -ip_xdc_file -ip_xdc_ooc_file
                          -ipname -library -output -rtl -taxonomy -vendor -version -vivado_clock
                          -vivado_impl_strategy -vivado_max_timing_paths
                          -vivado_optimization_level -vivado_pblock -vivado_phys_opt
                          -vivado_report_level -vivado_synth_design_args -vivado_synth_strategy}
                         {-cosim_trace_generation} 0 0}
    set_directive_bind_storage {{-type -impl -latency} {} 2 2}
    set_directive_interface {{-mode -bundle -depth -offset -name -register_mode -latency
                          -storage_type -max_read_burst_length -max_write_burst_length
                          -num_read_outstanding -num_write_outstanding -max_widen_bitwidth}
                         {-register} 2 2}
    csim_design         {{-argv -ldflags -mflags} {-O -clean -profile -setup} 0 0}
    csynth_design       {{} {-dump_cfg -dump_post_cfg -synthesis_check} 0 0}
    cosim_design        {{-argv -compiled_library_dir -hwemu_trace_dir -ldflags -mflags -rtl -tool
                          -trace_level -user_stall}
                         {-O -coverage -disable_binary_tv -disable_deadlock_detection
                          -disable_dependency_check -enable_dataflow_profiling
                          -enable_fifo_sizing -enable_tasks_with_m_axi -random_stall -setup
                          -stable_axilite_update -wave_debug} 0 0}
    export_design       {{-description -display_name -flow -format -ipname -library -output -rtl
                          -taxonomy -vendor -version} {} 0 0}
    exit                {{} {} 0 1}
}

set ::COMMANDS(vivado) {
    version             {{} {-short} 0 0}
    create_project      {{-part} {-force -in_memory -ip -rtl_kernel} 0 2}
    close_project       {{} {-delete} 0 0}
    current_project     {{} {} 0 1}
    get_param           {{} {} 1 1}
    set_param           {{} {} 2 2}
    set_property        {{-dict -name -value} {} 1 -1}
    get_property        {{} {-min -max} 2 2}
    get_board_parts     {{-filter} {-regexp -nocase -latest_file_version -latest_hw_revision} 0 -1}
    update_ip_catalog   {{-add_ip -repo_path -delete_ip -disable_ip -enable_ip
                          -update_module_ref} {-rebuild -scan_changes} 0 0}
    get_ipdefs          {{-filter -of_objects} {-name -regexp -nocase -all} 0 -1}
    create_bd_design    {{-dir -cell} {} 1 1}
    current_bd_design   {{} {} 0 1}
    create_bd_cell      {{-type -vlnv -reference} {} 1 1}
    get_bd_cells        {{-filter -of_objects} {-regexp -hierarchical} 0 -1}
    get_bd_pins         {{-filter -of_objects} {-regexp -hierarchical} 0 -1}
    get_bd_intf_pins    {{-filter -of_objects} {-regexp -hierarchical} 0 -1}
    get_bd_addr_spaces  {{-filter -of_objects} {-regexp -hierarchical} 0 -1}
    get_bd_addr_segs    {{-filter -of_objects} {-regexp -hierarchical -excluded -addressed
                          -unaddressed -addressing -addressables} 0 -1}
    connect_bd_intf_net {{-intf_net -boundary_type} {-auto} 1 2}
    connect_bd_net      {{-net -boundary_type} {} 1 -1}
    apply_bd_automation {{-rule -config -opts} {} 0 -1}
    assign_bd_address   {{-target_address_space -dict -import_from_file -export_to_file
                          -export_gui_to_file -offset -range -base_high}
                         {-boundary -master_boundary -external -force} 0 -1}
    exclude_bd_addr_seg {{-target_address_space -offset -range} {} 0 1}
    validate_bd_design  {{-design} {-force} 0 0}
    save_bd_design      {{} {} 0 1}
    close_bd_design     {{} {} 1 1}
    generate_target     {{} {-force} 2 2}
    make_wrapper        {{-fileset} {-top -testbench -inst_template -import -force} 1 1}
    get_files           {{-filter -compile_order -used_in -of_objects} {-regexp -nocase
                          -references -all -norecurse} 0 -1}
    add_files           {{-fileset -of_objects} {-norecurse -scan_for_includes} 1 -1}
    get_filesets        {{-filter -of_objects} {-regexp -nocase} 0 -1}
    update_compile_order {{-fileset} {-force_gui} 0 0}
    get_runs            {{-filter -of_objects} {-regexp -nocase} 0 -1}
    launch_runs         {{-jobs -lsf -sge -cluster_configuration -dir -to_step -host -remote_cmd
                          -email_to -pre_launch_script -post_launch_script -custom_script}
                         {-scripts_only -next_step -force -email_all} 1 -1}
    wait_on_run         {{-timeout} {} 1 -1}
    open_run            {{-name -pr_config} {} 1 1}
    get_timing_paths    {{-from -rise_from -fall_from -to -rise_to -fall_to -through -rise_through
                          -fall_through -delay_type -max_paths -nworst -slack_lesser_than
                          -slack_greater_than -group -sort_by -filter -cell}
                         {-setup -hold -unique_pins -no_report_unconstrained -user_ignored
                          -routable_nets -regexp -nocase} 0 0}
    report_timing_summary {{-delay_type -max_paths -nworst -path_type -significant_digits
                          -slack_lesser_than -file -name -cells} {-check_timing_verbose -no_detailed_paths -setup
                          -hold -unique_pins -append -return_string -warn_on_violation -datasheet
                          -input_pins -report_unconstrained -no_header -routable_nets} 0 0}
    report_utilization  {{-file -pblocks -evaluate_pblock -cells -slr -name -hierarchical_depth
                          -spreadsheet_file -spreadsheet_table -spreadsheet_depth}
                         {-append -exclude_child_pblocks -exclude_non_assigned -return_string
                          -packthru -no_primitives -omit_locs -hierarchical
                          -hierarchical_percentages} 0 0}
    report_power        {{-hier -hierarchical_depth -file -name -format -xpe -l -rpx}
                         {-no_propagation -vid -advisory -return_string -append} 0 0}
    write_bitstream     {{-reference_bitstream -cell} {-force -raw_bitfile -mask_file -bin_file
                          -no_binary_bitfile -logic_location_file -no_partial_bitfile} 1 1}
    write_checkpoint    {{-cell} {-force -noxdef -incremental_synth} 1 1}
    exit                {{} {} 0 1}
}

# Every Vivado command also takes these.
set ::COMMON(vivado) {-quiet -verbose}
set ::COMMON(hls) {}
