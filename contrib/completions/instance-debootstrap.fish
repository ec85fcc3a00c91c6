# fish completion for instance-debootstrap(8)

function __instance_debootstrap
    set -l words (commandline -opc) (commandline -ct)
    $words[1] complete $words[2..-1] 2>/dev/null
end

complete -c instance-debootstrap -a '(__instance_debootstrap)'
