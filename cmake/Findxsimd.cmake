# Finds the headers of xsimd and gives the target l3::xsimd.
#
# Debian's own package file links its target to a library `xtl` that is a folder of headers, so whoever uses it fails to
# link; the headers alone are all that l3 needs.
find_path(xsimd_INCLUDE_DIR xsimd/xsimd.hpp)
mark_as_advanced(xsimd_INCLUDE_DIR)

if(xsimd_INCLUDE_DIR)
  file(STRINGS "${xsimd_INCLUDE_DIR}/xsimd/config/xsimd_config.hpp" xsimd_VERSION
    REGEX "define XSIMD_VERSION_(MAJOR|MINOR|PATCH) ")
  list(TRANSFORM xsimd_VERSION REPLACE "[^0-9]+([0-9]+).*" "\\1")
  list(JOIN xsimd_VERSION "." xsimd_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(xsimd REQUIRED_VARS xsimd_INCLUDE_DIR VERSION_VAR xsimd_VERSION)

if(xsimd_FOUND AND NOT TARGET l3::xsimd)
  add_library(l3::xsimd INTERFACE IMPORTED)
  target_include_directories(l3::xsimd INTERFACE "${xsimd_INCLUDE_DIR}")
endif()
