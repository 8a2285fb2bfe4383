# oneDNN as the target DNNL::dnnl, SinewDNNL_FOUND.
#
# Not dnnl's own package file: Debian's insists on the OpenCL development files, which the CPU path does not need.
find_path(SinewDNNL_INCLUDE_DIR oneapi/dnnl/dnnl.hpp)
find_library(SinewDNNL_LIBRARY dnnl)
mark_as_advanced(SinewDNNL_INCLUDE_DIR SinewDNNL_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(SinewDNNL REQUIRED_VARS SinewDNNL_LIBRARY SinewDNNL_INCLUDE_DIR)

if(SinewDNNL_FOUND AND NOT TARGET DNNL::dnnl)
  add_library(DNNL::dnnl UNKNOWN IMPORTED)
  set_target_properties(DNNL::dnnl PROPERTIES
    IMPORTED_LOCATION "${SinewDNNL_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${SinewDNNL_INCLUDE_DIR}")
endif()
