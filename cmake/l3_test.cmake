# Short words for the lists in tests/, bench/ and tests/compile_fail/.
include_guard(GLOBAL)

# l3_add_tests(<name> [ARCH <arch>] FILES <file>...): one program l3_<name>_tests of these Catch2 files.
#
# Built for L3_ARCH, its test cases appear in CTest one by one. Built for a given ARCH it appears as one test, because
# the build machine may be unable to run it and list its cases; such a machine's run is shown as skipped.
# Cases tagged [slow] get the label `slow`, all others `fast`; hidden ones, [.], are run by hand. Of the kernels' those
# tagged [values] ask what comes out of code whose memory other cases reach as well, and are left out under sanitizers
# unless L3_SANITIZE_ALL is on. Of what CTest runs at once, the programs that take long begin first (COST, in about
# seconds), so that none is left alone at the end.
function(l3_add_tests name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "ARCH" "FILES")
  set(target l3_${name}_tests)
  set(arch)
  if(arg_ARCH)
    set(arch ARCH ${arg_ARCH})
  endif()
  set(processor "${PROJECT_SOURCE_DIR}/tests/support/processor.cpp")
  add_executable(${target} ${arg_FILES} "${processor}")
  set_source_files_properties("${processor}" PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)  # tests need not know the library
  target_link_libraries(${target} PRIVATE l3_test_main l3_test_libraries)
  l3_optimize(${target} ${arch})
  l3_warnings(${target})
  # One runs the kernels at -O3, as programs do. The others compile in less time; at -Og in least, where that costs less
  # running than it saves.
  if(NOT arg_ARCH STREQUAL "x86-64-v3")
    set(level 1)
    if(arg_ARCH OR name STREQUAL "cli")
      set(level g)
    endif()
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O${level}>)
  endif()

  # What a case says when something it needs is missing. CTest's pattern would excuse a failed case too, so it also
  # asks for Catch2's last words of one that passed, and for no other words (a sanitizer's) after them.
  set(skipped "SKIPPED: .*(All tests passed [(][^)]*[)]|assertions: - none -)[^A-Za-z]*$")

  if(arg_ARCH)
    set_target_properties(${target} PROPERTIES UNITY_BUILD_BATCH_SIZE 8)  # the small ones, where units are joined
    foreach(tier IN ITEMS fast slow)
      l3_files_with_slow_cases(slow_files ${arg_FILES})
      if(tier STREQUAL "fast" OR slow_files)
        set(spec "$<IF:$<STREQUAL:${tier},slow>,[slow],~[slow]>")
        if(L3_SANITIZE AND NOT L3_SANITIZE_ALL)
          string(APPEND spec "~[values]")
        endif()
        add_test(NAME ${name}.${tier} COMMAND ${target} "${spec}")
        set_tests_properties(${name}.${tier} PROPERTIES SKIP_RETURN_CODE 77 LABELS ${tier} TIMEOUT 900 COST 100)
      endif()
    endforeach()
    return()
  endif()
  set(cost 1)
  if(name STREQUAL "train")
    set(cost 40)
  endif()
  # A name that matches no case is a failure (CTest splits a name at a semicolon); version 3 needs not be told.
  set(strict EXTRA_ARGS --warn NoTests)
  if(Catch2_VERSION VERSION_GREATER_EQUAL 3)
    set(strict)
  endif()
  catch_discover_tests(${target} TEST_SPEC "~[slow]~[.]" TEST_PREFIX "${name}: " ${strict}
    PROPERTIES LABELS fast TIMEOUT 300 COST ${cost} SKIP_REGULAR_EXPRESSION "${skipped}")
  l3_files_with_slow_cases(slow_files ${arg_FILES})
  if(slow_files)
    catch_discover_tests(${target} TEST_SPEC "[slow]" TEST_PREFIX "${name}: " ${strict}
      PROPERTIES LABELS slow TIMEOUT 3600 COST 1000 SKIP_REGULAR_EXPRESSION "${skipped}")
  endif()
endfunction()

function(l3_files_with_slow_cases out)
  set(found)
  foreach(file IN LISTS ARGN)
    file(STRINGS "${file}" hit REGEX "\\[slow\\]" LIMIT_COUNT 1)
    if(hit)
      list(APPEND found "${file}")
    endif()
  endforeach()
  set(${out} "${found}" PARENT_SCOPE)
endfunction()

# l3_quick_cuda(<target>): CUDA units whose code is to be there soon, not to be fast, if L3_QUICK_PROGRAMS is on. (Products
# of warpgroups then wait for each other: what a GPU does with those of a release, only other builds show.)
function(l3_quick_cuda target)
  if(L3_QUICK_PROGRAMS)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-O0>)  # the processor's part
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
      target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Ofc=max>)  # the GPU's
    endif()
  endif()
endfunction()

# l3_finish_bench(<target>): how benchmarks are compiled: in less time beside tests, and in the fast tier, which does not
# run them, in the least; for whoever measures builds without tests (preset bench).
function(l3_finish_bench target)
  l3_optimize(${target})
  l3_warnings(${target})
  if(L3_BUILD_TESTS)
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:$<IF:$<BOOL:${L3_LEAVE_TO_ASAN}>,-O0,-O1>>)
  endif()
endfunction()

# l3_add_bench(<file>): the Google Benchmark program bench_<folder>_<name> of <folder>/<name>_bench.cpp. CTest runs each
# for an instant in the slow tier: benchmarks check their results before they time anything.
function(l3_add_bench file)
  cmake_path(GET file PARENT_PATH folder)
  cmake_path(GET folder FILENAME folder)
  cmake_path(GET file STEM name)
  string(REGEX REPLACE "_bench$" "" name "${name}")
  set(target bench_${folder}_${name})
  add_executable(${target} "${file}")
  target_link_libraries(${target} PRIVATE l3_bench_libraries)
  l3_finish_bench(${target})
  if(L3_BUILD_TESTS)
    add_test(NAME bench.${folder}.${name} COMMAND ${target} --benchmark_min_time=0.001)
    set_tests_properties(bench.${folder}.${name} PROPERTIES LABELS slow TIMEOUT 1800)
  endif()
endfunction()

# The headers of l3 that one of them includes, itself or through others. (What a .hpp includes of the .cuh it does for CUDA
# alone, and is left out.)
function(l3_headers_below header out)
  set(memory "l3 headers below ${header}")
  get_property(known GLOBAL PROPERTY "${memory}" SET)
  if(NOT known)
    set(pattern "^ *# *include <(l3/[^>]+)>.*")
    if(header MATCHES "[.]hpp$")
      set(pattern "^ *# *include <(l3/[^>]+[.]hpp)>.*")
    endif()
    file(STRINGS "${PROJECT_SOURCE_DIR}/include/${header}" included REGEX "${pattern}")
    list(TRANSFORM included REPLACE "${pattern}" "\\1")
    set(below ${included})
    foreach(each IN LISTS included)
      l3_headers_below("${each}" further)
      list(APPEND below ${further})
    endforeach()
    list(REMOVE_DUPLICATES below)
    set_property(GLOBAL PROPERTY "${memory}" "${below}")
  endif()
  get_property(below GLOBAL PROPERTY "${memory}")
  set(${out} "${below}" PARENT_SCOPE)
endfunction()

# l3_headers_alone(<name> <header>...): the object library l3_<name>_headers_alone, in whose units each of these headers
# comes after none that it does not include itself, so that it compiles only if it would alone. A unit is a chain of
# headers of which each includes the one before it (when CMake last ran): nothing is read twice that a unit for each
# would read many times. The target headers_alone builds all of them.
function(l3_headers_alone name)
  set(sorted)
  foreach(header IN LISTS ARGN)
    l3_headers_below("${header}" below)
    list(LENGTH below count)
    list(APPEND sorted "${count} ${header}")
  endforeach()
  list(SORT sorted COMPARE NATURAL ORDER DESCENDING)
  list(TRANSFORM sorted REPLACE "^[0-9]+ " "")

  # From those that include most down, each header goes to the first chain whose last one includes it, or begins one.
  set(chains)
  foreach(header IN LISTS sorted)
    set(chain)
    foreach(each IN LISTS chains)
      if(header IN_LIST below_${each})
        set(chain "${each}")
        break()
      endif()
    endforeach()
    if(NOT chain)
      string(MAKE_C_IDENTIFIER "${header}" chain)
      list(APPEND chains "${chain}")
      set(unit_${chain})
    endif()
    string(PREPEND unit_${chain} "#include <${header}>\n")
    l3_headers_below("${header}" below_${chain})
  endforeach()

  set(units)
  foreach(chain IN LISTS chains)
    set(unit "${CMAKE_CURRENT_BINARY_DIR}/headers_alone/${chain}.cpp")
    file(CONFIGURE OUTPUT "${unit}" CONTENT "${unit_${chain}}")
    list(APPEND units "${unit}")
  endforeach()
  set(target l3_${name}_headers_alone)
  add_library(${target} OBJECT EXCLUDE_FROM_ALL ${units})
  l3_warnings(${target})
  target_compile_options(${target} PRIVATE -O0)
  set_target_properties(${target} PROPERTIES UNITY_BUILD OFF)
  if(NOT TARGET headers_alone)
    add_custom_target(headers_alone)
  endif()
  add_dependencies(headers_alone ${target})
endfunction()

# l3_must_not_compile(<name> <file> EXPECT <regex>): the file must compile as it is, and with L3_BROKEN defined it must
# not, and the compiler must say <regex>. So the mistake, not some slip beside it, is what stops the compiler.
function(l3_must_not_compile name file)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "EXPECT" "")
  set(includes "$<TARGET_PROPERTY:l3_l3,INTERFACE_INCLUDE_DIRECTORIES>")
  add_test(NAME must_not_compile.${name}
    COMMAND "${CMAKE_COMMAND}"
      "-DCOMPILER=${CMAKE_CXX_COMPILER}" "-DFILE=${file}" "-DEXPECT=${arg_EXPECT}"
      "-DFLAGS=${CMAKE_CXX20_STANDARD_COMPILE_OPTION};$<$<BOOL:${includes}>:-I$<JOIN:${includes},;-I>>"
      -P "${PROJECT_SOURCE_DIR}/cmake/must_not_compile.cmake")
  set_tests_properties(must_not_compile.${name} PROPERTIES LABELS fast TIMEOUT 120)
endfunction()
