"""The XML that management point and cloud service hand out, composed for a test.

Location replies follow the grammar of ContentLocationReply (protocol.md 4.1),
manifests the form of 13.2. ElementTree writes them: no code shared with the agent.
"""

import urllib.parse
import xml.etree.ElementTree as ET

LOCAL_PRESET = {"SSLState": "0"}
CLIENT = "GUID:4F0E7B1C-0000-4000-8000-123456789ABC"


def record(*urls, locality="SUBNET", signature="", version="9040", server=None,
           dp_type="SERVER", capabilities=None, subnets=("",), metric="",
           trust="1", ad_site="Default-First-Site-Name", smb=(), **attributes):
    """One LocationRecord; **attributes become attributes of it (AccessToken=...)."""
    element = ET.Element("LocationRecord", attributes)
    for url in urls:
        ET.SubElement(element, "URL", Name=url, Signature=signature)
    for path in smb:
        ET.SubElement(element, "SMBPath", Name=path)
    ET.SubElement(element, "ADSite", Name=ad_site)
    nets = ET.SubElement(element, "IPSubnets")
    for net in subnets:
        ET.SubElement(nets, "IPSubnet", Address=net)
    ET.SubElement(element, "Metric", Value=metric)
    ET.SubElement(element, "Version").text = version
    box = ET.SubElement(element, "Capabilities", SchemaVersion="1.0")
    for name, value in (LOCAL_PRESET if capabilities is None
                        else capabilities).items():
        ET.SubElement(box, "Property", Name=name, Value=str(value))
    host = urllib.parse.urlsplit(urls[0]).hostname if urls else ""
    ET.SubElement(element, "ServerRemoteName").text = server or host
    ET.SubElement(element, "DPType").text = dp_type
    ET.SubElement(element, "Windows", Trust=trust)
    ET.SubElement(element, "Locality").text = locality
    return element


def site(records=(), code="ABC", master="ABC", locality="LOCAL"):
    element = ET.Element("Site")
    ET.SubElement(element, "MPSite", SiteCode=code, MasterSiteCode=master,
                  SiteLocality=locality, IISPreferedPort="80",
                  IISSSLPreferedPort="443")
    ET.SubElement(element, "LocationRecords").extend(records)
    return element


def location_reply(records=None, sites=None, groups=(), hashes=(), **root):
    """The whole reply as text.

    records  LocationRecords of the one site, or
    sites    list of site(...)
    groups   list of (GroupID, GroupGUID)
    hashes   list of (ALG_ID, hex, preference)
    **root   further attributes of the root (ContentFlags="200960", Hash=...)
    """
    reply = ET.Element("ContentLocationReply",
                       {"SchemaVersion": "1.00", "BGRVersion": "1", **root})
    box = ET.SubElement(reply, "BoundaryGroups",
                        BoundaryGroupListRetrieveTime="2026-01-15T10:19:02.120",
                        IsOnVPN="0")
    for number, guid in groups:
        ET.SubElement(box, "BoundaryGroup", GroupID=str(number), GroupGUID=guid,
                      GroupFlag="0")
    info = ET.SubElement(reply, "ContentInfo", PackageFlags="0")
    values = ET.SubElement(info, "ContentHashValues")
    for algorithm, text, preference in hashes:
        ET.SubElement(values, "Hash", Algorithm=str(algorithm), HashString=text,
                      HashPreference=str(preference))
    ET.SubElement(reply, "Sites").extend(
        sites if sites is not None else [site(records or ())])
    ET.SubElement(reply, "RelatedContentIDs")
    return ET.tostring(reply, encoding="unicode")


def mp_list(points):
    """The answer to MPLIST: points is a list of (FQDN, speaks HTTPS?)."""
    root = ET.Element("MPList")
    for fqdn, is_https in points:
        point = ET.SubElement(root, "MP", Name=fqdn.split(".")[0].upper(), FQDN=fqdn)
        ET.SubElement(point, "Version").text = "9040"
        box = ET.SubElement(point, "Capabilities", SchemaVersion="1.0")
        ET.SubElement(box, "Property", Name="SSLState", Value="31" if is_https else "0")
    return ET.tostring(root, encoding="unicode")


def cloud_url(fqdn, port, pid, cid=None, client=CLIENT,
              begin="2026-01-15T10:00:00", end="2036-01-15T18:00:00", **more):
    """URL of the cloud service for a content, with the query of protocol.md 6.2."""
    query = {"pid": pid, "cid": cid or pid, "tid": client,
             "iss": "CMDP.LAB.CONTOSO.COM", "alg": "1.2.840.113549.1.1.11",
             "st": begin, "et": end, **more}
    where = "https://%s%s" % (fqdn, "" if port in (None, 443) else ":%d" % port)
    return (where + "/downloadrestservice.svc/getcontentxmlsecure?"
            + urllib.parse.urlencode(query, safe=":"))


def manifest(content_id, version, content, url=None, hashes=True, sizes=True,
             separator="/", change=None):
    """The cloud manifest of a content.Content.

    url     function of a relative file name: where it lies; None = no Url at all,
            so that the service itself serves the file
    change  dict name -> attributes that replace the true ones (a lie)
    """
    root = ET.Element("Content", ContentId=content_id, Version=str(version))
    for name in content.files:
        about = {"Name": name.replace("/", separator)}
        if hashes:
            about["Hash"] = content.digests[name]
            about["HashAlgorithm"] = "SHA256"
        if sizes:
            about["Size"] = str(content.sizes[name])
        if url is not None:
            about["Url"] = url(name)
        about.update((change or {}).get(name, {}))
        ET.SubElement(root, "FileContent", about)
    return ET.tostring(root, encoding="unicode")
