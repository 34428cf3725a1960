"""The site's policy, composed for a test and put where the stand-in looks.

Instances of CCM_SoftwareDistribution as on record (protocol.md 8), in a document of
the shape that public captures show: Policy, PolicyRule, PolicyAction, instance, with
white space around each value. Nothing here is shared with the agent.
"""

import os
import time
import xml.sax.saxutils as sax

# PolicyFlags
TASKSEQUENCE, REQUIRESAUTH, SECRET, INTRANETONLY = 1, 2, 4, 8
PERSISTWHOLEPOLICY, AUTHORIZEDDYNAMICDOWNLOAD, COMPRESSED = 16, 32, 64

# CIM types of the properties that are no strings
TYPES = {"ADV_MandatoryAssignments": 11, "ADV_ActiveTime": 101, "PKG_ContentSize": 19,
         "PKG_PSF_ContainsSourceFiles": 11, "PRG_MaxDuration": 19}


def cim_time(when=None):
    """A time as WMI writes it, of no zone; epoch seconds, None = now."""
    return time.strftime("%Y%m%d%H%M%S.000000+***",
                         time.gmtime(time.time() if when is None else when))


def instance(name="CCM_SoftwareDistribution", indent=True, cdata=True, **properties):
    """One WMI instance; a property that is None is left out."""
    gap = "\n\t\t" if indent else ""
    lines = ['<instance class="%s">' % name]
    for key, value in properties.items():
        if value is None:
            continue
        text = str(value).upper() if isinstance(value, bool) else str(value)
        text = ("<![CDATA[%s]]>" % text.replace("]]>", "]]]]><![CDATA[>") if cdata
                else sax.escape(text))
        lines.append('<property name="%s" type="%d">%s<value>%s%s%s</value>%s'
                     "</property>" % (key, TYPES.get(key, 8), gap[:2], gap, text, gap,
                                      gap[:2]))
    lines.append("</instance>")
    return ("\n" if indent else "").join(lines)


def software_distribution(package, version, name=None, advertisement=None,
                          active="20200101000000.000000+***", mandatory=True,
                          hash="", size=0, has_files=True, shape=None, **more):
    """The instance of one package deployment.

    version    PKG_SourceVersion, the number of URLs and requests
    active     ADV_ActiveTime as WMI writes it (cim_time() makes one), None = absent
    mandatory  ADV_MandatoryAssignments: scripts in public set it True or False
    hash       PKG_SourceHash: the site's, that nobody can recompute
    shape      arguments of instance(): indent, cdata
    **more     further properties, or others in place of these; None leaves one out
    """
    values = {
        "ADV_AdvertisementID": advertisement or "ABC2" + package[-4:],
        "ADV_ActiveTime": active, "ADV_MandatoryAssignments": mandatory,
        "ADV_RepeatRunBehavior": "RerunIfFailed",
        "ADV_RCF_InstallFromLocalDPOptions": "DownloadContent",
        "ADV_RCF_InstallFromRemoteDPOptions": "DownloadContent",
        "PKG_PackageID": package, "PKG_Name": name or package,
        # the label, which is not the version: a reader must not mix them up
        "PKG_version": "4.2", "PKG_SourceVersion": version, "PKG_SourceHash": hash,
        "PKG_ContentSize": size, "PKG_PSF_ContainsSourceFiles": has_files,
        "PRG_ProgramID": "*", "PRG_ProgramName": "*", "PRG_CommandLine": "",
        "PRG_WorkingDirectory": "", "PRG_MaxDuration": 60, "PRG_DependentPolicy": ""}
    values.update(more)
    return instance(**(shape or {}), **values)


def document(instances, policy_id="{00000000-0000-0000-0000-000000000000}",
             version="1.00", site="ABC", declaration='<?xml version="1.0" ?>\n'):
    """A whole policy document of one or several instances."""
    if isinstance(instances, str):
        instances = [instances]
    rules = "".join(
        '<PolicyRule PolicyRuleID="{%032X}">\n<PolicyAction PolicyActionType="WMI-XML">'
        "\n%s\n</PolicyAction>\n</PolicyRule>\n" % (i, one)
        for i, one in enumerate(instances, 1))
    return ('%s<Policy PolicyType="Machine" SchemaVersion="1.00" PolicyID=%s '
            'PolicyVersion=%s PolicySource="SMS:%s">\n%s</Policy>\n'
            % (declaration, sax.quoteattr(policy_id), sax.quoteattr(version), site,
               rules))


def publish(folder, policy_id, text, version="1.00", flags=0,
            category="SoftwareDistribution", kind="Machine"):
    """Put a document into the policies of a stand-in's folder; returns its id."""
    policies = os.path.join(folder, "policies")
    os.makedirs(policies, exist_ok=True)
    conf = "version %s\ncategory %s\ntype %s\nflags %d\n" % (version, category, kind,
                                                           flags)
    # The document last: without one there is no policy.
    for name, data in ((policy_id + ".conf", conf), (policy_id + ".xml", text)):
        path = os.path.join(policies, name)
        with open(path + ".new", "w", encoding="utf-8") as stream:
            stream.write(data)
        os.replace(path + ".new", path)
    return policy_id


def deploy(folder, package, version, policy_id=None, policy_version="1.00", flags=0,
           **fields):
    """Deploy a package to every client of the site; returns the policy's id.

    The id is made of package and advertisement, as a site makes it, so that a newer
    version takes the place of the older one. **fields: software_distribution().
    """
    advertisement = fields.get("advertisement") or "ABC2" + package[-4:]
    policy_id = policy_id or "%s-%s-6F6BCC28" % (advertisement, package)
    return publish(folder, policy_id, document(
        software_distribution(package, version, **fields), policy_id, policy_version),
        policy_version, flags)


def withdraw(folder, policy_id):
    for ending in (".xml", ".conf"):
        os.unlink(os.path.join(folder, "policies", policy_id + ending))
