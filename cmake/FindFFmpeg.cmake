# Finds FFmpeg's libraries through pkg-config, or by file name where pkg-config knows nothing of them.
#
# Gives one target FFmpeg::<library> each, and
#   FFmpeg_TARGETS   all of them
#   FFmpeg_VERSION   version of libavcodec, which tells the interface: 59 is FFmpeg 5
find_package(PkgConfig QUIET)

set(FFmpeg_TARGETS)
set(FFmpeg_files)
foreach(library IN ITEMS avformat avcodec avutil swscale swresample)
  if(PKG_CONFIG_FOUND)
    pkg_check_modules(FFmpeg_pc_${library} QUIET lib${library})
  endif()
  find_path(FFmpeg_${library}_INCLUDE_DIR lib${library}/${library}.h HINTS ${FFmpeg_pc_${library}_INCLUDE_DIRS})
  find_library(FFmpeg_${library}_LIBRARY ${library} HINTS ${FFmpeg_pc_${library}_LIBRARY_DIRS})
  mark_as_advanced(FFmpeg_${library}_INCLUDE_DIR FFmpeg_${library}_LIBRARY)
  list(APPEND FFmpeg_TARGETS FFmpeg::${library})
  list(APPEND FFmpeg_files FFmpeg_${library}_LIBRARY FFmpeg_${library}_INCLUDE_DIR)
endforeach()

if(FFmpeg_avcodec_INCLUDE_DIR)
  set(FFmpeg_VERSION)
  foreach(file IN ITEMS version_major.h version.h)  # the major number moved to its own file with FFmpeg 5.1
    if(EXISTS "${FFmpeg_avcodec_INCLUDE_DIR}/libavcodec/${file}")
      file(STRINGS "${FFmpeg_avcodec_INCLUDE_DIR}/libavcodec/${file}" lines
        REGEX "define LIBAVCODEC_VERSION_(MAJOR|MINOR|MICRO) +[0-9]")
      list(TRANSFORM lines REPLACE "[^0-9]+([0-9]+).*" "\\1")
      list(APPEND FFmpeg_VERSION ${lines})
    endif()
  endforeach()
  list(JOIN FFmpeg_VERSION "." FFmpeg_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(FFmpeg REQUIRED_VARS ${FFmpeg_files} VERSION_VAR FFmpeg_VERSION
  REASON_FAILURE_MESSAGE "l3::media needs FFmpeg 5 (libavcodec 59) or newer (-DL3_MEDIA=OFF builds l3 without it)")

if(FFmpeg_FOUND)
  foreach(library IN ITEMS avformat avcodec avutil swscale swresample)
    if(NOT TARGET FFmpeg::${library})
      add_library(FFmpeg::${library} UNKNOWN IMPORTED)
      set_target_properties(FFmpeg::${library} PROPERTIES
        IMPORTED_LOCATION "${FFmpeg_${library}_LIBRARY}"
        INTERFACE_INCLUDE_DIRECTORIES "${FFmpeg_${library}_INCLUDE_DIR}")
    endif()
  endforeach()
endif()
