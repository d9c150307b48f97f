# The test that l3_must_not_compile() registers: cmake -DCOMPILER= -DFLAGS= -DFILE= -DEXPECT= -P this file
cmake_minimum_required(VERSION 3.25)

set(ENV{LC_ALL} C)  # the words looked for are English
set(compile "${COMPILER}" ${FLAGS} -fsyntax-only "${FILE}")

function(fail complaint)
  message(NOTICE "${said}")
  message(FATAL_ERROR "${FILE} ${complaint}")
endfunction()

execute_process(COMMAND ${compile} RESULT_VARIABLE result ERROR_VARIABLE said)
if(NOT result EQUAL 0)
  fail("must compile as it is; the compiler said the above")
endif()
execute_process(COMMAND ${compile} -DL3_BROKEN RESULT_VARIABLE result ERROR_VARIABLE said)
if(result EQUAL 0)
  fail("must not compile with L3_BROKEN, and does")
elseif(NOT said MATCHES "${EXPECT}")
  fail("must make the compiler say\n  ${EXPECT}\nand made it say the above")
endif()
